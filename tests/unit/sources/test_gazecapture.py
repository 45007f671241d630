"""GazeCapture's lay-out: what is read, and what each fault says."""

import h5py
import numpy as np
import pytest

from regaze.sources import SourceError, open_source

ROWS = 3


def columns(rows=ROWS, coefficients=5):
    return {
        "file_name": np.array([f"p1/frames/{i:05d}.jpg".encode() for i in range(rows)]),
        "camera_parameters": np.tile([900.0, 900.0, 320.0, 240.0], (rows, 1)),
        "distortion_parameters": np.zeros((rows, coefficients)),
        "head_pose": np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 500.0], (rows, 1)),
        "3d_gaze_target": np.zeros((rows, 3)),
    }


def write(root, persons, name="supplementary.h5"):
    with h5py.File(root / name, "w") as file:
        for person, data in persons.items():
            for key, values in data.items():
                file.create_dataset(f"{person}/{key}", data=values)


@pytest.mark.parametrize("coefficients", [4, 5, 8, 12, 14])
@pytest.mark.parametrize("text", [False, True])
def test_every_accepted_form_is_read(tmp_path, coefficients, text):
    data = columns(coefficients=coefficients)
    data["camera_parameters"] = data["camera_parameters"].astype(np.float32)
    if text:
        names = [name.decode() for name in data["file_name"]]
        data["file_name"] = np.array(names, dtype=h5py.string_dtype())
    write(tmp_path, {"p2": data, "p1": data})
    source = open_source("gazecapture", tmp_path)
    assert source.persons == ["p1", "p2"]
    records = source.read("p1")
    assert len(records) == ROWS and records.distortion.shape == (ROWS, coefficients)
    record = records[1]
    assert record.path == tmp_path / "p1/frames/00001.jpg"
    assert (record.person, record.index, record.landmarks) == ("p1", 1, None)
    assert record.camera_parameters.dtype == np.float64
    assert [one.index for one in records] == [0, 1, 2]


def test_synthetic_opens_as_gazecapture_with_landmarks(tmp_path):
    write(tmp_path, {"p1": columns()})
    landmarks = np.random.default_rng(0).random((ROWS, 68, 2))
    write(tmp_path, {"p1": {"landmarks": landmarks}}, "parameters.h5")
    source = open_source("synthetic", tmp_path)
    assert source.kind == "synthetic"
    np.testing.assert_array_equal(source.read("p1").landmarks, landmarks)


@pytest.mark.parametrize(
    "change, reason, words",
    [
        ({"head_pose": None}, "missing_key", ["head_pose"]),
        ({"file_name": None}, "missing_key", ["file_name"]),
        ({"head_pose": np.zeros((ROWS, 5))}, "bad_shape", ["head_pose", "6", "(5,)"]),
        ({"3d_gaze_target": np.zeros((2, 3))}, "bad_shape", ["3d_gaze_target", "3 rows"]),
        ({"distortion_parameters": np.zeros((ROWS, 6))}, "bad_shape", ["4 or 5 or 8", "(6,)"]),
        ({"camera_parameters": np.full((ROWS, 4), b"x")}, "bad_shape", ["numbers"]),
        ({"file_name": np.array([b"\xff", b"b", b"c"])}, "bad_shape", ["UTF-8"]),
    ],
)
def test_a_fault_names_file_person_and_dataset(tmp_path, change, reason, words):
    data = {key: values for key, values in (columns() | change).items() if values is not None}
    write(tmp_path, {"p1": data})
    with pytest.raises(SourceError) as error:
        open_source("gazecapture", tmp_path).read("p1")
    assert error.value.reason == reason
    for word in ["supplementary.h5", "p1", *words]:
        assert word in str(error.value)
    if "file_name" not in change:
        assert len(error.value.file_names) == ROWS


def test_faults_of_the_whole_data_set(tmp_path):
    with pytest.raises(SourceError, match="nothing"):
        open_source("gazecapture", tmp_path / "nothing")
    with pytest.raises(SourceError, match="supplementary.h5"):
        open_source("gazecapture", tmp_path)
    (tmp_path / "supplementary.h5").write_text("text")
    with pytest.raises(SourceError, match="HDF5"):
        open_source("gazecapture", tmp_path)
    with pytest.raises(SourceError, match="gazecapture"):
        open_source("gazecaptur", tmp_path)
    write(tmp_path, {})
    with pytest.raises(SourceError, match="group per person"):
        open_source("gazecapture", tmp_path)
    write(tmp_path, {"p1": columns()})
    with pytest.raises(SourceError) as error:
        open_source("gazecapture", tmp_path).read("p9")
    assert error.value.reason == "missing_person"
