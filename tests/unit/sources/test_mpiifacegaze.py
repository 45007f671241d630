"""MPIIFaceGaze: annotation lines, calibration files, and what each fault says."""

import logging
import pickle
import re

import h5py
import numpy as np
import pytest
from captures import mpiifacegaze as written
from captures.files import write_supplementary
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from regaze.sources import SourceError, open_source, source_options
from regaze.sources.mpiifacegaze import _parse, read_camera


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    root = tmp_path_factory.mktemp("mpii") / "set"
    return root, written.mpiifacegaze(root)


def lines_of(root, person="p00"):
    return (root / person / f"{person}.txt").read_text().splitlines()


@pytest.fixture
def small(tmp_path, capture):
    """Labels of one person without the photos, to be damaged."""
    lines = lines_of(capture[0])
    folder = tmp_path / "set/p00/Calibration"
    folder.mkdir(parents=True)
    (folder / "Camera.mat").write_bytes((capture[0] / "p00/Calibration/Camera.mat").read_bytes())

    def write(lines):
        text = lines if isinstance(lines, bytes) else "\n".join(lines).encode()
        (folder.parent / "p00.txt").write_bytes(text)
        return open_source({"source": "mpiifacegaze", "root": str(tmp_path / "set")})

    return lines, write


def test_records_are_what_was_photographed(capture):
    root, truth = capture
    source = open_source({"source": "mpiifacegaze", "root": str(root)})
    assert source.kind == "mpiifacegaze" and source.persons == ["p00", "p07"]
    seen = []
    for person in source.persons:
        records = source.read(person)
        assert records.face_model == "mpii6" and records.turned is None and records.gaze_known
        for row, name in enumerate(records.file_name):
            shot = truth[person, name]
            seen.append((person, name))
            assert (records.root / name).is_file()
            np.testing.assert_allclose(records.head_pose[row], shot.head_pose("mpii6"))
            np.testing.assert_allclose(records.gaze_target[row], shot.target)
            np.testing.assert_allclose(records.camera_parameters[row], shot.camera_parameters)
            np.testing.assert_allclose(records.distortion[row], shot.distortion)
    assert seen == list(truth)


def test_photos_have_a_box_around_the_face(capture):
    root, truth = capture
    photos = open_source({"source": "mpiifacegaze", "root": str(root)}).photos("p07")
    assert photos.gaze_known and np.isnan(photos.gaze_angles).all() and photos.landmarks is None
    for row, name in enumerate(photos.file_name):
        shot = truth["p07", name]
        np.testing.assert_allclose(photos.gaze_target[row], shot.target)
        x, y, width, height = photos.face_box[row]
        inner = shot.landmarks[17:]  # all but the jaw
        inside = (inner > [x, y]).all(1) & (inner < [x + width, y + height]).all(1)
        assert inside.mean() > 0.9 and x > 0 and x + width < 320


def test_poses_from_elsewhere(capture, tmp_path):
    root, truth = capture
    entry = {"source": "mpiifacegaze", "root": str(root)}
    options = source_options({**entry, "pose": "landmarks"})
    assert options.needs_landmarks() and options.files() == {}
    assert not source_options(entry).needs_landmarks()
    path = str(write_supplementary(tmp_path / "poses.h5", truth))
    options = source_options({**entry, "pose": "landmarks", "supplementary": path})
    assert not options.needs_landmarks() and options.files() == {"supplementary": path}
    for source in (open_source(options), open_source(entry, supplementary=[path])):
        records = source.read("p00")
        assert source.kind == "mpiifacegaze" and records.face_model == "sfm14"
        shot = truth["p00", records.file_name[0]]
        np.testing.assert_allclose(records.head_pose[0], shot.head_pose())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda fields: fields[:-1], "expected 28 fields, found 27"),
        (lambda fields: [*fields, "more"], "expected 28 fields, found 29"),
        (lambda fields: [*fields[:17], "1,5", *fields[18:]], "field 18: .*number.*'1,5'"),
        (lambda fields: [*fields[:17], "1_5", *fields[18:]], "field 18: .*number.*'1_5'"),
        (lambda fields: [*fields[:27], "both"], "field 28: expected left or right"),
        (lambda fields: ["../p07/x.jpg", *fields[1:]], "field 1: expected a path below"),
    ],
)
def test_a_bad_line_is_one_bad_row(small, change, words, caplog):
    lines, write = small
    lines[1] = " ".join(change(lines[1].split()))
    with caplog.at_level(logging.WARNING):
        records = write(lines).read("p00")
    assert len(records) == 3
    assert np.isfinite(records.head_pose).all(1).tolist() == [True, False, True]
    assert re.search("p00.txt: line 2: " + words, caplog.text)
    assert records.file_name[1] in ("p00/day01/0031.jpg", "p00/p00.txt line 2")


def test_bytes_that_are_no_text_and_empty_lines(small):
    lines, write = small
    records = write(b"\n" + lines[0].encode() + b"\r\n\n\xff\xfe 1 2\n").read("p00")
    assert records.file_name == ("p00/day01/0005.jpg", "p00/p00.txt line 4")
    assert np.isfinite(records.head_pose[0]).all() and np.isnan(records.gaze_target[1]).all()


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (b"", "missing_key", "expected a line per photo"),
        (b"{}\nno\n", "bad_shape", "found none in 2; line 1: expected 28 fields, found 1"),
    ],
)
def test_a_file_without_any_good_line(small, content, reason, words):
    with pytest.raises(SourceError, match=words) as error:
        small[1](content).read("p00")
    assert error.value.reason == reason and "p00.txt" in str(error.value)
    assert len(error.value.file_names) == (2 if content else 0)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_line_stops_the_parser(line):
    name, values, fault = _parse(line)
    assert len(values) == 28 and (fault or name)


MATRIX = np.array([[400.0, 0, 160], [0, 401, 120], [0, 0, 1]])


def test_both_forms_of_camera_files(tmp_path):
    bend = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])
    content = {"cameraMatrix": MATRIX, "distCoeffs": bend.T, "other": {"a": 1}}
    savemat(tmp_path / "5.mat", content)
    savemat(tmp_path / "5z.mat", content, do_compression=True)
    with h5py.File(tmp_path / "73.mat", "w", userblock_size=512) as file:
        file["cameraMatrix"], file["distCoeffs"] = MATRIX.T, bend.T
    for name in ("5.mat", "5z.mat", "73.mat"):
        camera, distortion = read_camera(tmp_path / name)
        np.testing.assert_array_equal(camera, [400, 401, 160, 120])
        np.testing.assert_array_equal(distortion, bend[0])


class Surprise:
    def __reduce__(self):
        return print, ("a file was run",)


def camera_files(folder):
    whole = folder / "whole.mat"
    savemat(whole, {"cameraMatrix": MATRIX, "distCoeffs": np.zeros(5)})
    data = whole.read_bytes()
    yield b"", "expected a MATLAB file"
    yield data[:150], "whole|MATLAB|cameraMatrix"
    yield data[: len(data) // 2], "MATLAB|distCoeffs"
    yield pickle.dumps(Surprise()), "expected a MATLAB file"
    yield np.random.default_rng(0).bytes(2000), "expected a MATLAB file"
    for content, words in (
        ({"cameraMatrix": MATRIX}, "distCoeffs: expected an array"),
        ({"cameraMatrix": MATRIX, "distCoeffs": np.zeros(3)}, "and 3"),
        ({"cameraMatrix": MATRIX[:2], "distCoeffs": np.zeros(5)}, r"\(2, 3\)"),
        ({"cameraMatrix": MATRIX.T, "distCoeffs": np.zeros(5)}, r"\[\[fx, 0, cx\]"),
        ({"cameraMatrix": MATRIX * np.nan, "distCoeffs": np.zeros(5)}, r"\[\[fx, 0, cx\]"),
        ({"cameraMatrix": "text", "distCoeffs": np.zeros(5)}, "expected numbers"),
    ):
        savemat(whole, content)
        yield whole.read_bytes(), words


def test_compressed_camera_files_are_not_trusted(tmp_path):
    path, content = tmp_path / "c.mat", {"cameraMatrix": MATRIX, "distCoeffs": np.zeros(5)}
    savemat(path, content, do_compression=True)
    data = bytearray(path.read_bytes())
    data[136] ^= 0x55  # the first byte after a variable's type and size
    path.write_bytes(data)
    with pytest.raises(SourceError, match="c.mat: expected a MATLAB file, found Error -3"):
        read_camera(path)
    savemat(path, content | {"other": np.zeros(10**6)}, do_compression=True)
    with pytest.raises(SourceError, match="c.mat: expected variables of at most .* one of more"):
        read_camera(path)


def test_damaged_hdf5_camera_files_name_the_variable(tmp_path):
    path = tmp_path / "73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cameraMatrix"] = MATRIX.T
    with pytest.raises(SourceError, match="73.mat: distCoeffs: expected an array"):
        read_camera(path)
    with h5py.File(path, "a") as file:
        file["distCoeffs"] = np.zeros((1, 65))
    with pytest.raises(SourceError, match=r"73.mat: distCoeffs: .*found shape \(1, 65\)"):
        read_camera(path)


def test_damaged_camera_files_are_one_clear_error(tmp_path, capsys):
    for number, (data, words) in enumerate(camera_files(tmp_path)):
        path = tmp_path / f"{number}.mat"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=words) as error:
            read_camera(path)
        assert path.name in str(error.value)
    assert "run" not in capsys.readouterr().out


def test_a_missing_camera_rejects_the_rows_of_the_person(small):
    source = small[1](small[0])
    (source.root / "p00/Calibration/Camera.mat").unlink()
    with pytest.raises(SourceError, match="Camera.mat: no such") as error:
        source.read("p00")
    assert error.value.reason == "missing_key" and len(error.value.file_names) == 3


def test_faults_of_the_whole_set(tmp_path):
    entry = {"source": "mpiifacegaze", "root": str(tmp_path / "set")}
    with pytest.raises(SourceError, match="expected the data set's folder"):
        open_source(entry)
    (tmp_path / "set/p00").mkdir(parents=True)
    with pytest.raises(SourceError, match="such as p00 with p00.txt"):
        open_source(entry)
    (tmp_path / "set/p00/p00.txt").write_text("")
    with pytest.raises(SourceError, match="p01.txt: person p01") as error:
        open_source(entry).read("p01")
    assert error.value.reason == "missing_person"
