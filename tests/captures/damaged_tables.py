"""Damages of text: JSON of GazeCapture, splits, annotations, calibrations, and users' tables."""

import io
import json
import os

import h5py
import numpy as np
from scipy.io import savemat

from captures.damage import LAYOUTS, Damage
from captures.damaged_hdf5 import as_folder, as_pipe, content, gigabyte

_SAME = {"touched": frozenset()}


def _text(change):
    """A damage of a text file: ``change(text)`` is its new content, text or bytes."""

    def apply(path):
        data = change(path.read_text(encoding="utf-8"))
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))

    return apply


def _json(change):
    """A damage of a JSON file: ``change(content)`` alters it or returns another."""

    def apply(path):
        data = json.loads(path.read_text())
        changed = change(data)
        path.write_text(json.dumps(data if changed is None else changed))

    return apply


def _within(change, *parts):
    return lambda folder: change(folder.joinpath(*parts))


def _whole(layout, reason, count=None, person=0):
    """All rows of a person are rejected."""
    place = LAYOUTS[layout].person(person)
    return {"touched": place, "reasons": {reason: count or len(place)}}


FILES = {
    "missing": lambda path: path.unlink(),
    "zero bytes": content(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "not UTF-8": lambda path: path.write_bytes(b'\xff\xfe\xff"' + path.read_bytes()),
    "zeros": content(bytes(3000)),
    "a folder": as_folder,
    "a pipe": as_pipe,
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "a link to a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
}
"""What may happen to any text file."""

_BOM = _text(lambda text: b"\xef\xbb\xbf" + text.encode())
_CRLF = _text(lambda text: text.replace("\n", "\r\n"))
_DEEP = _text(lambda text: "[" * 100_000)

_UNOPENED = ("missing", "a folder", "a pipe", "a link to itself", "a link to a device")
_G = "gazecapture_json"
_UNNAMED = {"touched": LAYOUTS[_G].person()}


def _entry(key, row, value):
    def change(data):
        data[key][row] = value

    return _json(change)


def _short(key):
    return _json(lambda data: {**data, key: data[key][:-1]})


def _without(*keys):
    return _json(lambda data: {key: data[key] for key in data if key not in keys})


def _raw(key, value):
    """The first number of an array, as it is spelled."""

    def change(text):
        data = json.loads(text)
        data[key][0] = "MARK"
        return json.dumps(data).replace('"MARK"', value)

    return _text(change)


def json_damages():
    """GazeCapture without a supplementary file."""
    out = []

    def add(file, name, change, **fate):
        where = _within(change, "data", "00002", f"{file}.json")
        out.append(Damage(f"{file}.json {name}", _G, where, **fate))

    gone, source, shape = (_whole(_G, word) for word in ("missing_key", "bad_source", "bad_shape"))
    # Without the list of frames the photos that lie there tell how many rows are lost.
    for name, change in FILES.items():
        lost = "missing_key" if name in _UNOPENED else "bad_source"
        add("frames", name, change, **_whole(_G, lost))
        fate = gone if name in _UNOPENED else source
        for file in ("appleFace", "dotInfo", "info"):
            add(file, name, change, **fate)
    one = _whole(_G, "bad_shape")
    add("frames", "an object", _json(lambda data: {"0": data[0]}), **one)
    add("frames", "a number", _entry_of_list(7), **one)
    add("frames", "nested deeply", _DEEP, **source)
    add("frames", "with BOM", _BOM, **_SAME)
    add("frames", "with CRLF", _json_lines, **_SAME)
    add("frames", "UTF-16", _text(lambda text: text.encode("utf-16")), **_SAME)
    add("frames", "empty list", _json(lambda data: []), **one)
    add("frames", "one less", _json(lambda data: data[:-1]), **_whole(_G, "bad_shape", 2))
    add("frames", "leads out", _entry_of_list("../../x.jpg"), reasons={"bad_file_name": 1})
    add("frames", "is absolute", _entry_of_list("/etc/passwd"), reasons={"unreadable_image": 1})
    add("frames", "a lone surrogate", _text(lambda text: text.replace("00000", "\\ud800", 1)),
        reasons={"unreadable_image": 1})  # fmt: skip
    add("frames", "zero byte", _text(lambda text: text.replace("00000", "\\u0000", 1)),
        reasons={"unreadable_image": 1})  # fmt: skip
    for key in ("X", "IsValid"):
        add("appleFace", f"without {key}", _without(key), **gone)
        add("appleFace", f"{key} one less", _short(key), **shape)
    for key in ("XCam", "YCam"):
        add("dotInfo", f"without {key}", _without(key), **gone)
        add("dotInfo", f"{key} one less", _short(key), **shape)
    for value in ('"1.5"', "null", "[1, 2]", "{}", "[[[[1]]]]"):
        add("dotInfo", f"XCam {value}", _raw("XCam", value), **shape)
    add("dotInfo", "XCam true", _raw("XCam", "true"), **shape)
    for value in ("NaN", "Infinity", "-Infinity", "1e400", "1e301", "1" + "0" * 400):
        add("dotInfo", f"XCam {value:.9}", _raw("XCam", value), reasons={"non_finite_label": 1})
    add("dotInfo", "XCam of 5000 digits", _raw("XCam", "1" * 5000), **source)
    add("dotInfo", "XCam a number", _json(lambda data: {**data, "XCam": 1.0}), **shape)
    add("dotInfo", "a list", _json(lambda data: [data]), **shape)
    add("dotInfo", "nested deeply", _DEEP, **source)
    add("dotInfo", "with BOM", _BOM, **_SAME)
    add("appleFace", "box NaN", _raw("X", "NaN"), **_SAME)
    add("appleFace", "box negative", _entry("W", 0, -40.0), **_SAME)
    add("appleFace", "box a string", _entry("W", 0, "40"), **shape)
    add("appleFace", "not valid", _entry("IsValid", 0, 0), **_SAME)
    add("info", "without DeviceName", _without("DeviceName"), **gone)
    add("info", "DeviceName a number", _json(lambda data: {**data, "DeviceName": 6}), **gone)
    add("info", "a list", _json(lambda data: [data]), **gone)
    add("info", "an unknown device", _json(lambda data: {**data, "DeviceName": "Nokia"}),
        touched=LAYOUTS[_G].person(), kept=3)  # fmt: skip

    def points(change):
        def apply(folder):
            _without("XCam", "YCam")(folder / "data" / "00002" / "dotInfo.json")
            change(folder / "data" / "00002")

        return apply

    def add_points(name, change, **fate):
        out.append(Damage(f"points, {name}", _G, points(change), **fate))

    add_points("no screen.json", lambda place: (place / "screen.json").unlink(), **gone)
    add_points(
        "orientation 7",
        lambda place: _entry("Orientation", 0, 7)(place / "screen.json"),
        reasons={"non_finite_label": 1},
    )
    add_points(
        "screen of no size",
        lambda place: _entry("W", 0, 0)(place / "screen.json"),
        reasons={"non_finite_label": 1},
    )
    add_points(
        "an unknown device",
        lambda place: _json(lambda data: {**data, "DeviceName": "Nokia"})(place / "info.json"),
        **gone,
    )
    return out


def _entry_of_list(value):
    def change(data):
        data[0] = value

    return _json(change)


def _json_lines(path):
    path.write_bytes(
        json.dumps(json.loads(path.read_text()), indent=1).replace("\n", "\r\n").encode()
    )


def _line(number, change):
    """A damage of one line of a text file."""

    def alter(text):
        lines = text.splitlines()
        lines[number] = change(lines[number])
        parts = [one if isinstance(one, bytes) else one.encode() for one in lines]
        return b"\n".join(parts) + b"\n"

    return _text(alter)


def _field(number, value, separator):
    def change(line):
        fields = line.split(separator)
        fields[number] = value
        return separator.join(fields)

    return _line(0, change)


def annotation_damages():
    """Lines of MPIIFaceGaze's and ETH-XGaze's annotation."""
    out = []
    places = {
        "mpiifacegaze": ("data", "p00", "p00.txt"),
        "eth_xgaze": ("data", "data", "annotation_train", "subject0000.csv"),
    }
    for layout, parts in places.items():
        sep = " " if layout == "mpiifacegaze" else ","
        head, target = (15, 24) if layout == "mpiifacegaze" else (7, 4)
        lost = {"reasons": {"non_finite_label": 1}}
        alone = {"touched": LAYOUTS[layout].person()}
        cases = {
            "NaN": (_field(head, "nan", sep), lost),
            "infinity": (_field(target, "-inf", sep), lost),
            "1e300": (_field(target, "1e300", sep), lost),
            "1e999": (_field(head + 3, "1e999", sep), lost),
            "text": (_field(head, "far", sep), lost),
            "hexadecimal": (_field(head, "0x1p3", sep), lost),
            "an empty field": (_field(head, '""', sep), lost),
            "a field less": (_line(0, lambda line, sep=sep: line.rsplit(sep, 1)[0]), lost),
            "a field more": (_line(0, lambda line, sep=sep: line + sep + "1"), lost),
            "cut in its first line": (
                _text(lambda text: text[:60]),
                {**alone, "reasons": {"bad_shape": 1}},
            ),
            "cut in its last line": (
                _text(lambda text: text.rstrip()[:-40]),
                {"touched": frozenset({(0, 2)}), "reasons": {"non_finite_label": 1}},
            ),
            "not UTF-8": (_line(0, lambda line: b"\xff\xfe" + line.encode()), lost),
            "zero bytes within": (_line(0, lambda line: "\0\0" + line), lost),
            "a leading ..": (_field(0, "../../x.jpg", sep), lost),
            "an absolute name": (_field(0, "/etc/passwd", sep), lost),
            "a quote that never ends": (_line(0, lambda line: '"' + line), None),
            "blank lines": (_text(lambda text: "\n\n" + text.replace("\n", "\n\n")), _SAME),
            "CRLF": (_CRLF, _SAME),
            "BOM": (_BOM, _SAME),
            "a line twice": (
                _line(0, lambda line: line + "\n" + line),
                {"touched": frozenset(), "kept": 1},
            ),
            "a line of 3 MB": (_line(0, lambda line: line + " " + "9" * 3_000_000), None),
            "head behind the camera": (
                _field(head + 5, "-600.0", sep),
                {"reasons": {"behind_camera": 1}},
            ),
            "head far aside": (_field(head + 3, "90000.0", sep), {"reasons": {"out_of_frame": 1}}),
            "a photo that is not there": (
                _field(0, "day99/0000.jpg" if sep == " " else "frame9999", sep),
                {"reasons": {"unreadable_image": 1}},
            ),
            "only blank": (content(b"\n \n"), {**alone, "reasons": {"missing_key": 3}}),
            "zero bytes long": (content(b""), {**alone, "reasons": {"missing_key": 3}}),
        }
        for name, (change, fate) in cases.items():
            fate = {"kept": None} if fate is None else fate
            out.append(Damage(f"annotation {name}", layout, _within(change, *parts), **fate))
        for name in ("a folder", "a pipe", "missing", "a link to itself"):
            change = _within(FILES[name], *parts)
            # As many as there are photos.
            fate = {**alone, "reasons": {"missing_person": 3}}
            out.append(Damage(f"annotation {name}", layout, change, **fate))
    return out


def _mat(**content):
    def apply(path):
        savemat(path, {"cameraMatrix": np.eye(3), "distCoeffs": np.zeros((1, 5)), **content})

    return apply


def _mat_bomb(path):
    """A compressed variable that inflates to a gigabyte."""
    data = gigabyte()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(head + (15).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data)


def _mat_claims(path):
    """Header of a matrix of 2^31 - 1 squared doubles."""
    savemat(path, {"cameraMatrix": np.ones((3, 3)), "distCoeffs": np.zeros((1, 5))})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x03\0\0\0\x03\0\0\0", b"\xff\xff\xff\x7f\xff\xff\xff\x7f", 1))


def _mat_zeros(path):
    out = io.BytesIO()
    savemat(out, {"cameraMatrix": np.zeros((1000, 1000)), "distCoeffs": np.zeros((1, 5))},
            do_compression=True)  # fmt: skip
    path.write_bytes(out.getvalue())


def _mat73(change):
    def apply(path):
        path.unlink()
        with h5py.File(path, "w") as file:
            file["cameraMatrix"] = np.array([[402.5, 0, 0], [0, 404.1, 0], [163.2, 117.1, 1]])
            file["distCoeffs"] = np.zeros((5, 1))
            change(file)

    return apply


def _cells():
    cells = np.empty((3, 3), object)
    cells[:] = "os.system"
    return cells


def _xml(change):
    def alter(text):
        return change(text)

    return _text(alter)


_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
_ENTITIES = f'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY l0 "lol">{_LAUGHS}]>'


def _with_type(text):
    body = text.split("?>", 1)[1]
    return _ENTITIES + body.replace("<data>", "<data>&l11;", 1)


def calibration_damages():
    """Calibrations of MPIIFaceGaze (MATLAB) and ETH-XGaze (XML)."""
    out = []

    def mat(name, change, reason="bad_shape", **fate):
        where = _within(change, "data", "p00", "Calibration", "Camera.mat")
        fate = fate or _whole("mpiifacegaze", reason)
        out.append(Damage(f"Camera.mat {name}", "mpiifacegaze", where, **fate))

    for name, change in FILES.items():
        mat(name, change, "missing_key" if name in _UNOPENED else "bad_shape")
    mat("random bytes", content(np.random.default_rng([4]).bytes(5000)))
    mat(
        "only the header", content(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"), "missing_key"
    )
    mat("a cell of objects", _mat(cameraMatrix=_cells()))
    mat("a structure", _mat(cameraMatrix={"a": 1.0, "reduce": "os.system"}))
    mat("text", _mat(cameraMatrix="import os"))
    mat("complex", _mat(cameraMatrix=np.eye(3) * 1j))
    mat("booleans", _mat(cameraMatrix=np.eye(3, dtype=bool)), "out_of_frame")
    mat("of 4 x 4", _mat(cameraMatrix=np.eye(4)))
    mat("empty", _mat(cameraMatrix=np.zeros((0, 0))))
    mat("NaN", _mat(cameraMatrix=np.full((3, 3), np.nan)), "bad_camera")
    mat("skewed", _mat(cameraMatrix=np.ones((3, 3))), "bad_camera")
    mat("focal length negative", _mat(cameraMatrix=np.diag([-400.0, 400, 1])), "bad_camera")
    mat("distortion of 3", _mat(distCoeffs=np.zeros((1, 3))))
    mat("distortion of none", _mat(distCoeffs=np.zeros((0, 0))))
    mat("distortion NaN", _mat(distCoeffs=np.full((1, 5), np.nan)), "non_finite_label")
    mat("zip bomb", _mat_bomb)
    mat("zeros by the million", _mat_zeros)
    mat("claims 2^62 numbers", _mat_claims)
    mat("a file of 20 MB", lambda path: os.truncate(path, 20 << 20))
    mat("a pickle", content(b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93."))
    mat("7.3", _mat73(lambda file: None), touched=LAYOUTS["mpiifacegaze"].person(), kept=3)
    mat("7.3 object references", _mat73(_references))
    mat("7.3 external link", _mat73(_linked), "bad_source")
    mat("7.3 claims 10^9 rows", _mat73(_huge))
    mat("7.3 bomb", _mat73(_packed), "bad_camera")

    def xml(name, change, reason="bad_shape", **fate):
        where = _within(change, "data", "calibration", "cam_calibration", "cam00.xml")
        fate = fate or _whole("eth_xgaze", reason)
        if not fate.get("touched"):
            fate = {**fate, **_SAME}
        else:
            fate |= {"touched": LAYOUTS["eth_xgaze"].everybody()}
        # Both persons have photos of this camera: nobody is left, which is an error of its own.
        if fate.get("reasons"):
            fate = {"error": f"(?s)4 of 4 rows.*{reason}: 4.*cam00.xml"}
        out.append(Damage(f"cam00.xml {name}", "eth_xgaze", where, **fate))

    for name, change in FILES.items():
        xml(name, change, "missing_key" if name in _UNOPENED else "bad_shape")
    xml("entity bomb", _xml(_with_type))
    xml("entity bomb in UTF-16", _xml(lambda text: _with_type(text).encode("utf-16")))
    xml("external entity", _xml(lambda text: text.replace(
        "?>", '?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', 1)))  # fmt: skip
    xml("nested deeply", _xml(lambda text: "<a>" * 40_000), "bad_shape")
    xml("nested deeply and closed", _xml(lambda text: "<a>" * 15_000 + "</a>" * 15_000),
        "missing_key")  # fmt: skip
    xml("2 MB", _xml(lambda text: text + " " * (2 << 20)))
    xml(
        "without the camera",
        _xml(lambda text: text.replace("Camera_Matrix", "Other")),
        "missing_key",
    )
    xml("text for numbers", _xml(lambda text: text.replace("<data>", "<data> x ", 1)))
    xml("a number more", _xml(lambda text: text.replace("<data>", "<data> 1. ", 1)))
    xml("NaN", _xml(lambda text: text.replace("815", ".NaN", 1)))
    xml("nan", _xml(lambda text: text.replace("815.", "nan", 1)), "bad_camera")
    xml("with BOM", _BOM, **_SAME)
    xml("with CRLF", _CRLF, **_SAME)
    xml("with comments", _xml(lambda text: text.replace("<data>", "<!-- a --><data>")), **_SAME)
    return out


def _references(file):
    del file["cameraMatrix"]
    file.create_dataset("cameraMatrix", (3, 3), h5py.ref_dtype)[...] = file.ref


def _linked(file):
    del file["cameraMatrix"]
    file["cameraMatrix"] = h5py.ExternalLink("/etc/passwd", "x")


def _huge(file):
    del file["cameraMatrix"]
    file.create_dataset("cameraMatrix", (10**9, 3), "f8", chunks=True)


def _packed(file):
    del file["cameraMatrix"]
    data = file.create_dataset("cameraMatrix", (3, 3), "f8", chunks=(3, 3), compression="gzip")
    data.id.write_direct_chunk((0, 0), gigabyte())


_T = "folder"
_ANNA = LAYOUTS[_T].person()
_ANY = {"touched": LAYOUTS[_T].everybody(), "kept": None}


def table_damages():
    """Tables that users bring beside a folder of photos."""
    out = []

    def add(table, name, change, **fate):
        where = _within(change, f"data-{table}.csv")
        out.append(Damage(f"{table}.csv {name}", _T, where, **fate))

    person = {"touched": _ANNA, "reasons": {"bad_source": 2}}
    header = "csv: line 1: expected"
    for table in ("landmarks", "intrinsics", "gaze"):
        for name, change in FILES.items():
            pattern = "data-" + table
            fate = {"error": pattern}
            if name == "cut in half":
                fate = _ANY
            add(table, name, change, **fate)
        add(table, "only the header", _text(lambda text: text.split("\n")[0] + "\n"),
            touched=LAYOUTS[_T].everybody(), kept=None)  # fmt: skip
        add(table, "without header", _text(lambda text: text.split("\n", 1)[1]), error=header)
        add(table, "semicolons", _text(lambda text: text.replace(",", ";")), error=header)
        add(table, "UTF-16", _text(lambda text: text.encode("utf-16")), error="expected UTF-8")
        add(table, "with BOM", _BOM, **_SAME)
        add(table, "with CRLF", _CRLF, **_SAME)
        add(table, "a column twice", _line(0, lambda line: line + "," + line.rsplit(",", 1)[1]),
            error=header)  # fmt: skip
        add(table, "text", _cell(1, "far"), **person)
        add(table, "a number in words of Unicode", _cell(1, "１２"), kept=None, touched=_ANNA)
        add(table, "a field less", _line(1, lambda line: line.rsplit(",", 1)[0]), **person)
        add(table, "a field more", _line(1, lambda line: line + ",1"), **person)
        add(table, "a line twice", _line(1, lambda line: line + "\n" + line), **person)
        add(table, "a zero byte", _cell(1, "\0"), **person)
        add(table, "not UTF-8 within", _line(1, lambda line: b"\xff" + line.encode()), kept=None,
            touched=LAYOUTS[_T].everybody())  # fmt: skip
        add(table, "an open quote", _line(1, lambda line: '"' + line), kept=None,
            touched=LAYOUTS[_T].everybody())  # fmt: skip
        add(table, "a line of 3 MB", _line(1, lambda line: line + "0" * 3_000_000), kept=None,
            touched=LAYOUTS[_T].everybody())  # fmt: skip
        add(table, "a line of a stranger", _line(1, lambda line: "../x.jpg,".join(
            ["", line.split(",", 1)[1]]) + "\n" + line), **_SAME)  # fmt: skip
        add(table, "blank lines", _text(lambda text: text.replace("\n", "\n\n")), **_SAME)
    for value, reasons in (("nan", "no_landmarks"), ("inf", None), ("1e300", None), ("", None)):
        fate = {"reasons": {reasons}} if False else {"kept": None}
        add("landmarks", f"first {value or 'blank'}", _cell(1, value), **fate)
    add("landmarks", "all the same", _line(1, lambda line: ",".join(
        [line.split(",")[0]] + ["100.0"] * 136)), reasons={"pose_failed": 1})  # fmt: skip
    add("landmarks", "outside the photo", _line(1, lambda line: ",".join(
        [line.split(",")[0]] + [str(float(x) + 5000) for x in line.split(",")[1:]])),
        kept=None)  # fmt: skip
    for value in ("nan", "inf", "-400", "0", "1e400"):
        add("intrinsics", f"fx {value}", _cell(1, value), **person)
    add("intrinsics", "cx nan", _cell(3, "nan"), **person)
    add("intrinsics", "fx 1e300", _cell(1, "1e300"), kept=None)
    add("intrinsics", "k1 1e300", _cell(5, "1e300"), kept=None)
    for value in ("nan", "inf", "1e300", ""):
        add("gaze", f"target {value or 'blank'}", _cell(1, value), reasons={"non_finite_label": 1})
    return out


def _cell(column, value):
    def change(line):
        fields = line.split(",")
        fields[column] = value
        return ",".join(fields)

    return _line(1, change)


def table_like_damages():
    """All of them."""
    return json_damages() + annotation_damages() + calibration_damages() + table_damages()
