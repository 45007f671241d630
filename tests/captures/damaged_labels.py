"""Damages of a supplementary file: its values, its names, its groups; and of parameters.h5."""

import h5py
import numpy as np

from captures.damage import LAYOUTS, Damage
from captures.damaged_hdf5 import DATASETS, FILES, cycle, first, userblock, valued

_FILE = "GazeCapture_supplementary.h5"
_LAYOUT = LAYOUTS["gazecapture"]
_PERSON, _OTHER = _LAYOUT.persons
_HEAD, _CAMERA, _TARGET = "head_pose", "camera_parameters", "3d_gaze_target"
_LENS, _NAMES = "distortion_parameters", "file_name"


def _in_file(change, key=None, file=_FILE):
    def apply(folder):
        path = folder / "data" / file
        return change(path) if key is None else change(path, f"{_PERSON}/{key}")

    return apply


def _edit(change):
    def apply(folder):
        with h5py.File(folder / "data" / _FILE, "r+") as file:
            change(file)

    return apply


def _person(reason, rows=3):
    return {"touched": _LAYOUT.person(), "reasons": {reason: rows}}


_GONE, _SHAPE, _BAD = _person("missing_key"), _person("bad_shape"), _person("bad_source")
_FOUR, _SAME = _person("bad_shape", 4), {"touched": frozenset()}
_DATASETS = {
    "missing": _GONE,
    "a group": _GONE,
    "a soft link": _BAD,
    "a soft link to itself": _BAD,
    "an external link": _BAD,
    "a virtual dataset": _BAD,
    "raw data of another file": _BAD,
    "one row more": _FOUR,
    "a wrong checksum": _BAD,
    "an unknown filter": _BAD,
    "junk for deflated data": _BAD,
    "a chunk that inflates to 1 GB": _BAD,
    "big endian": _SAME,
}


def dataset_damages():
    """Single datasets of the supplementary file that are not what they should be."""
    out = []
    for name, change in DATASETS.items():
        fate = _DATASETS.get(name, _SHAPE)
        out.append(Damage(f"{_HEAD} {name}", "gazecapture", _in_file(change, _HEAD), **fate))
    for key in (_CAMERA, _TARGET, _LENS, _NAMES):
        for name in ("missing", "one row less", "no columns", "a wrong checksum"):
            fate = _DATASETS.get(name, _SHAPE)
            if key == _NAMES and name == "no columns":
                continue
            change = _in_file(DATASETS[name], key)
            out.append(Damage(f"{key} {name}", "gazecapture", change, **fate))
    for name in ("no rows", "variable length", "compound", "claims 10^9 rows", "a soft link"):
        fate = _DATASETS.get(name, _SHAPE)
        if name == "claims 10^9 rows":
            fate = _person("bad_shape")
        change = _in_file(DATASETS[name], _NAMES)
        out.append(Damage(f"{_NAMES} {name}", "gazecapture", change, **fate))
    for name in ("missing", "object references", "one row less", "a soft link", "a chunk missing"):
        fate = _SAME if name == "missing" else _DATASETS.get(name, _SHAPE)
        change = _in_file(DATASETS[name], "landmarks", "parameters.h5")
        out.append(Damage(f"parameters.h5 {name}", "gazecapture", change, **fate))
    return out


_NAN, _INF = np.nan, np.inf
_NONE = "non_finite_label"
VALUES = {
    # name: dataset, change, what comes of the first row; "" means it is kept
    "head pose NaN": (_HEAD, first(_NAN, 2), _NONE),
    "head pose infinite": (_HEAD, first(_INF, 4), _NONE),
    "head pose 1e300": (_HEAD, first(1e300), _NONE),
    "rotation of 1e300 rad": (_HEAD, first(1e300, 0), _NONE),
    "rotation of 1e6 turns": (_HEAD, first(2e6 * np.pi, 1), ""),
    "head at the camera": (_HEAD, first(0.0), "behind_camera"),
    "head behind the camera": (_HEAD, first(-400.0, 5), "behind_camera"),
    "head a light year away": (_HEAD, first(9.5e18, 5), _NONE),
    "head a kilometre to the side": (_HEAD, first(1e6, 3), "out_of_frame"),
    "target NaN": (_TARGET, first(_NAN), _NONE),
    "target infinite": (_TARGET, first(-_INF, 0), _NONE),
    "target 1e300": (_TARGET, first(1e300, 1), _NONE),
    "focal length negative": (_CAMERA, first(-300.0, 0), "bad_camera"),
    "focal length zero": (_CAMERA, first(0.0, 1), "bad_camera"),
    "focal length tiny": (_CAMERA, first(1e-300, 0), "bad_camera"),
    "focal length NaN": (_CAMERA, first(_NAN, 0), _NONE),
    "principal point far off": (_CAMERA, first(1e8, 2), "out_of_frame"),
    "principal point infinite": (_CAMERA, first(_INF, 3), _NONE),
    "distortion NaN": (_LENS, first(_NAN, 0), _NONE),
    "distortion infinite": (_LENS, first(-_INF, 4), _NONE),
    "distortion 1e300": (_LENS, first(1e300, 0), None),
    "distortion 1e6": (_LENS, first(1e6, 0), "out_of_frame"),
    "distortion folds the picture": (_LENS, first(-40.0, 0), None),
}
"""None: whether the row is kept or rejected is not decided here, only that it is one of them."""


def _float32_overflow(values):
    values = values.astype(np.float64)
    values[0, 3] = 1e39
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


def _half(values):
    with np.errstate(over="ignore"):
        return np.array(values).astype(np.float16)


def value_damages():
    """Numbers that cannot be."""
    out = []
    for name, (key, change, reason) in VALUES.items():
        fate = {"kept": None} if reason is None else {"kept": 1} if not reason else {}
        fate |= {"reasons": {reason: 1}} if reason else {}
        out.append(Damage(name, "gazecapture", _in_file(change, key), **fate))
    everyone = {"touched": _LAYOUT.person()}
    overflow = _in_file(valued(_float32_overflow), _HEAD)
    out.append(
        Damage("float32 overflow", "gazecapture", overflow, kept=2, reasons={_NONE: 1}, **everyone)
    )
    for width in (0, 1, 3, 6, 9, 15):
        change = valued(lambda values, width=width: np.zeros((len(values), width)))
        out.append(
            Damage(f"distortion of {width}", "gazecapture", _in_file(change, _LENS), **_SHAPE)
        )
    for width in (8, 12, 14):
        change = valued(lambda values, width=width: np.pad(values, ((0, 0), (0, width - 5))))
        out.append(
            Damage(f"distortion of {width}", "gazecapture", _in_file(change, _LENS), **_SAME)
        )
    half = _in_file(valued(_half), _HEAD)
    out.append(Damage("half precision", "gazecapture", half, kept=3, **everyone))
    whole = valued(lambda values: np.round(values).astype(np.int16))
    out.append(
        Damage("whole millimetres", "gazecapture", _in_file(whole, _TARGET), kept=3, **everyone)
    )
    return out


def _named(name):
    """The first row's file is called ``name``, in the supplementary file and on disk."""

    def apply(folder):
        old = folder / "data" / _LAYOUT.photos[0]
        new = old.parent / name
        old.rename(new)
        _rename(folder, f"{_PERSON}/frames/{name}")

    return apply


def _rename(folder, name):
    with h5py.File(folder / "data" / _FILE, "r+") as file:
        names = file[_PERSON][_NAMES][()].tolist()
        names[0] = name if isinstance(name, bytes) else name.encode()
        del file[_PERSON][_NAMES]
        file[_PERSON][_NAMES] = np.array(names)


_ELSEWHERE = "bad_file_name"
NAMES = {
    "../../secret.jpg": _ELSEWHERE,
    "/etc/passwd": _ELSEWHERE,
    "00002/frames/../frames/00000.jpg": _ELSEWHERE,
    "..\\..\\secret.jpg": _ELSEWHERE,
    "": _ELSEWHERE,
    ".": "unreadable_image",
    "00002/frames": "unreadable_image",
    "00002/frames/" + "x" * 300 + ".jpg": "unreadable_image",
    "a/" * 500 + "x.jpg": "unreadable_image",
    "nobody.jpg": "unreadable_image",
    "GazeCapture_supplementary.h5": "unreadable_image",
}
"""File names of the first row, and for what it is rejected."""


def name_damages():
    """File names of rows that lead elsewhere, or are merely odd."""
    out = []
    for name, reason in NAMES.items():
        change = lambda folder, name=name: _rename(folder, name)  # noqa: E731
        out.append(Damage(f"name {name!r:.40}", "gazecapture", change, reasons={reason: 1}))
    not_utf8 = lambda folder: _rename(folder, b"00002/frames/\xff\xfe.jpg")  # noqa: E731
    out.append(Damage("name not UTF-8", "gazecapture", not_utf8, reasons={_ELSEWHERE: 1}))
    zero = lambda folder: _rename(folder, b"00002/fra\0mes/0.jpg")  # noqa: E731
    out.append(Damage("name with a zero byte", "gazecapture", zero, reasons={_ELSEWHERE: 1}))
    for name in ("new\nline.jpg", "'quo\"tes'.jpg", "-rf.jpg", " spaced .jpg", "$(id);&|.jpg"):
        out.append(Damage(f"name {name!r}", "gazecapture", _named(name), kept=1, close=True))
    out.append(Damage("name in kanji", "gazecapture", _named("顔.jpg"), kept=1, close=True))
    twice = lambda folder: _rename(folder, "00002/frames/00001.jpg")  # noqa: E731
    out.append(
        Damage("a photo named twice", "gazecapture", twice, frozenset({(0, 0), (0, 1)}), kept=2)
    )
    return out


def _two_files(same):
    def apply(folder):
        """Two supplementary files, that share a person or do not."""
        path = folder / "data" / _FILE
        other = folder / "more.h5"
        with h5py.File(path, "r+") as one, h5py.File(other, "w") as two:
            one.copy(_PERSON, two)
            if not same:
                del one[_PERSON]
        return {"poses": [path, other]}

    return apply


def _renamed_person(name):
    def change(file):
        file.move(_PERSON, "renamed")
        file.id.links.move(b"renamed", file.id, name)

    return change


def _extra(name, make):
    def change(file):
        make(file, name)

    return change


def _dataset_of_nobody(file, name):
    file[name] = np.zeros(3)


def _absent(file):
    file[_PERSON].attrs["gaze"] = "absent"


def _status(values):
    def change(file):
        file[_PERSON]["status"] = np.array(values)

    return change


def _more_words(file):
    file[_PERSON].attrs["gaze"] = np.array([1.5, 2.5])


def group_damages():
    """Groups, links and attributes of the supplementary file, and the file as a whole."""
    every = _LAYOUT.everybody()
    nobody = {"touched": frozenset(), "reasons": {"missing_person": 1}}
    out = []

    def add(name, change, **fate):
        out.append(Damage(name, "gazecapture", change, **fate))

    add("a person in two files", _two_files(True), error="00002.*each person in one file")
    add("persons in two files", _two_files(False), **_SAME)
    add("no person", _edit(lambda file: file.clear()), error="a group per person, found none")
    add("no HDF5 group", _edit(_extra("loose", _dataset_of_nobody)), **nobody)
    add("a person without data", _edit(lambda file: file.create_group("empty")),
        touched=frozenset(), reasons={"missing_key": 1})  # fmt: skip
    add("the file within itself", lambda folder: cycle(folder / "data" / _FILE),
        touched=frozenset(), reasons={"missing_key": 1})  # fmt: skip
    add("a person within itself",
        lambda folder: cycle(folder / "data" / _FILE, _PERSON, _PERSON), **_SAME)  # fmt: skip
    add("the same group under two names",
        lambda folder: cycle(folder / "data" / _FILE, "/", _PERSON),
        touched=frozenset(), kept=3)  # fmt: skip
    add("a person is a soft link", _edit(lambda file: (
        file.move(_PERSON, "there"), file.__setitem__(_PERSON, h5py.SoftLink("/there")))),
        touched=_LAYOUT.person(), kept=3, reasons={"bad_source": 3})  # fmt: skip
    add("a person is an external link", _edit(lambda file: file.__setitem__(
        "zzz", h5py.ExternalLink("/etc/passwd", "/"))),
        touched=frozenset(), reasons={"bad_source": 1})  # fmt: skip
    add("a person of no UTF-8", _edit(_renamed_person(b"\xff\xfe")), error="UTF-8 names of persons")
    add(
        "a person in kanji", _edit(_renamed_person("顔".encode())), touched=_LAYOUT.person(), kept=3
    )
    add("a person with a line break", _edit(_renamed_person(b"a\nb")),
        touched=_LAYOUT.person(), kept=3)  # fmt: skip
    add("a person's name of 5000 letters", _edit(_renamed_person(b"x" * 5000)),
        touched=_LAYOUT.person(), kept=3)  # fmt: skip
    add("a person is missing", _edit(lambda file: file.pop(_PERSON)), touched=_LAYOUT.person())
    add("targets of gaze that is absent", _edit(_absent), **_SHAPE)
    add("an odd attribute gaze", _edit(_more_words), **_SAME)
    add("a status", _edit(_status([b"low_score", b"", b""])), reasons={"low_score": 1})
    add("too few statuses", _edit(_status([b"", b""])), **_SHAPE)
    add("statuses that are numbers", _edit(_status([1, 2, 3])), **_SHAPE)
    add("statuses of no UTF-8", _edit(_status([b"\xff", b"", b""])), **_SHAPE)
    add("a userblock", _in_file(userblock), **_SAME)
    errors = {
        "a folder": "5 of 5 rows.*missing_key.*GazeCapture_supplementary.h5, found photos alone",
        "a pipe": "5 of 5 rows.*missing_key.*GazeCapture_supplementary.h5, found photos alone",
        "missing": "5 of 5 rows.*missing_key.*GazeCapture_supplementary.h5, found photos alone",
        "bytes spoiled": "rows were rejected|expected",
    }
    for name, change in FILES.items():
        pattern = "(?s)" + errors.get(name, "h5: expected an HDF5 file, found another")
        add(f"supplementary {name}", _in_file(change), error=pattern)
        add(f"named supplementary {name}", _option(change),
            error="(?s)no such file|rows were rejected|expected an HDF5 file")  # fmt: skip
    for name in ("cut in half", "text"):
        add(f"parameters.h5 {name}", _in_file(FILES[name], None, "parameters.h5"),
            error="(?s)5 of 5 rows.*bad_source: 5.*parameters.h5: expected an HDF5 file",
            touched=every)  # fmt: skip
    return out


def _option(change):
    def apply(folder):
        path = folder / "data" / _FILE
        path = path.rename(folder / "labels.h5")
        change(path)
        return {"supplementary": str(path)}

    return apply


def label_damages():
    """All of them."""
    return dataset_damages() + value_damages() + name_damages() + group_damages()
