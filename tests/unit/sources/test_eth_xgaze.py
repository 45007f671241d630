"""ETH-XGaze's photos: CSV labels, calibrations of FileStorage, turned cameras, the split."""

import csv
import json
import logging

import numpy as np
import pytest
from captures import eth_xgaze as written

from regaze.sources import SourceError, open_source
from regaze.sources.eth_xgaze import read_camera, released_split


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    root = tmp_path_factory.mktemp("xgaze") / "set"
    return root, written.eth_xgaze(root, written.photos(distorted=True))


def opened(root, **options):
    return open_source({"source": "eth_xgaze", "root": str(root), **options})


@pytest.fixture
def small(tmp_path, capture):
    """Labels and calibrations without photos, to be damaged."""
    with open(capture[0] / "data/annotation_train/subject0000.csv", newline="") as file:
        lines = list(csv.reader(file))
    (tmp_path / "data/annotation_train").mkdir(parents=True)
    (tmp_path / "calibration").symlink_to(capture[0] / "calibration")

    def write(lines):
        path = tmp_path / "data/annotation_train/subject0000.csv"
        path.write_text("\n".join(",".join(line) for line in lines))
        return opened(tmp_path)

    return lines, write


def test_records_are_what_was_photographed(capture):
    root, truth = capture
    source = opened(root, distortion="used")
    assert source.kind == "eth_xgaze" and source.persons == ["subject0000", "subject0004"]
    seen = []
    for person in source.persons:
        records = source.read(person)
        assert records.face_model == "xgaze6"
        for row, name in enumerate(records.file_name):
            shot = truth[person, name]
            seen.append((person, name))
            assert (records.root / name).is_file()
            assert records.turned[row] == any(f"cam{n:02d}" in name for n in (3, 6, 13))
            np.testing.assert_allclose(records.head_pose[row], shot.head_pose("xgaze6"))
            np.testing.assert_allclose(records.gaze_target[row], shot.target)
            np.testing.assert_allclose(records.landmarks[row], shot.landmarks)
            np.testing.assert_allclose(records.camera_parameters[row], shot.camera_parameters)
            np.testing.assert_allclose(records.distortion[row], shot.distortion)
    assert seen == list(truth)


def test_options_choose_rows_and_the_lens(capture):
    root, _ = capture
    assert (opened(root).read("subject0000").distortion == 0).all()
    chosen = opened(root, cameras=[6, 0, 6]).read("subject0000")
    assert {name[-9:] for name in chosen.file_name} == {"cam00.JPG", "cam06.JPG"}
    assert len(chosen) == 4
    every = opened(root, every=2).read("subject0000")
    assert len(every) == 4 and all("frame0000" in name for name in every.file_name)
    all_cameras = opened(root, cameras=None)
    assert all_cameras.read("subject0000").file_name == opened(root).read("subject0000").file_name
    assert all_cameras.split()["train"] == ["subject0000"]
    with pytest.raises(SourceError, match="of the chosen cameras, found none"):
        opened(root, cameras=[17]).read("subject0004")
    for bad in ([], [-1]):
        with pytest.raises(ValueError, match="cameras"):
            opened(root, cameras=bad)


def test_a_bad_line_is_one_bad_row(small, caplog):
    lines, write = small
    lines[1] = lines[1][:-1]
    lines[2][20] = "x"
    lines[3][0] = "../frame0000"
    lines[4][5] = "inf"
    lines[5] = ["\0"]
    with caplog.at_level(logging.WARNING):
        records = write(lines).read("subject0000")
    assert len(records) == 8
    good = np.isfinite(records.gaze_target).all(1) & np.isfinite(records.camera_parameters).all(1)
    assert good.tolist() == [True, False, False, False, False, False, True, True]
    for words in (
        "subject0000.csv: line 2: expected 149 columns, found 148",
        "line 3: column 20: expected a number, found 'x'",
        "line 4: columns 0 and 1: expected frame0000 and cam00.JPG, found '../frame0000'",
        "line 6: expected 149 columns, found 1",
    ):
        assert words in caplog.text
    assert records.file_name[1] == "data/train/subject0000/frame0000/cam03.JPG"
    assert records.file_name[3] == "data/annotation_train/subject0000.csv line 4"


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "found none"), ("a,b\n1,2\n", "found none in 2; line 1: expected 149"), ('"', "149|CSV")],
)
def test_a_file_without_any_good_line(small, content, words):
    source = small[1](small[0])
    (source.root / "data/annotation_train/subject0000.csv").write_text(content)
    with pytest.raises(SourceError, match=words):
        source.read("subject0000")


def test_an_annotation_that_is_too_large_is_not_read(small):
    source = small[1](small[0])
    with open(source.root / "data/annotation_train/subject0000.csv", "wb") as file:
        file.truncate((1 << 30) + 1)
    words = "subject0000.csv: expected at most 1073741824 bytes, found 1073741825"
    with pytest.raises(SourceError, match=words):
        source.read("subject0000")


def storage(matrix="400 0 160 0 401 120 0 0 1", bend="0 0 0 0 0", head="", name="Camera_Matrix"):
    def node(name, data):
        return f'<{name} type_id="opencv-matrix"><rows>3</rows><data>\n {data}</data></{name}>'

    nodes = node(name, matrix) + node("Distortion_Coefficients", bend)
    return f'<?xml version="1.0"?>{head}\n<opencv_storage>{nodes}</opencv_storage>'


def test_calibration_as_opencv_reads_it(capture, tmp_path):
    import cv2

    path = capture[0] / "calibration/cam_calibration/cam06.xml"
    file = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    matrix = file.getNode("Camera_Matrix").mat()
    camera, bend = read_camera(path)
    np.testing.assert_array_equal(camera, matrix[[0, 1, 0, 1], [0, 1, 2, 2]])
    np.testing.assert_array_equal(bend, file.getNode("Distortion_Coefficients").mat()[0])
    (tmp_path / "c.xml").write_text(storage())
    np.testing.assert_array_equal(read_camera(tmp_path / "c.xml")[0], [400, 401, 160, 120])


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (storage(head=BOMB), "expected plain XML, found a document type"),
        (storage(head=BOMB).encode("utf-16"), "expected UTF-8"),
        ("", "expected XML"),
        (storage()[:200], "expected XML"),
        (storage(name="Kamera"), "Camera_Matrix: expected a matrix, found none"),
        (storage(matrix="1 2 3"), "Camera_Matrix: expected 9 numbers, found 3"),
        (storage(matrix="400 0 160 0 401 120 0 0 x"), "Camera_Matrix: expected numbers"),
        (storage(matrix="400 9 160 0 401 120 0 0 1"), r"Camera_Matrix: expected \[\[fx"),
        (storage(bend="0 0 0 0"), "Distortion_Coefficients: expected 5 numbers, found 4"),
        (storage(bend="0 " * (1 << 20)), "found [0-9]+ bytes, more than 131072"),
    ],
)
def test_damaged_calibrations_are_one_clear_error(tmp_path, content, words):
    path = tmp_path / "cam00.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match="cam00.xml: .*" + words):
        read_camera(path)


def test_a_missing_calibration_rejects_the_rows_of_the_person(small):
    lines, write = small
    for line in lines:
        line[1] = "cam99.JPG"
    with pytest.raises(SourceError, match="cam99.xml") as error:
        write(lines).read("subject0000")
    assert error.value.reason == "missing_key" and len(error.value.file_names) == len(lines)


def test_split_of_the_release(tmp_path):
    people = ["subject0000", "subject0003"]
    assert released_split(tmp_path, people) == {"train": people, "val": [], "test": []}
    lists = {"train": ["subject0003.h5", "subject0007.h5"], "test": ["subject0000.h5", "s9.h5"]}
    (tmp_path / "train_test_split.json").write_text(json.dumps(lists))
    wanted = {"train": ["subject0003"], "val": [], "test": ["subject0000"]}
    assert released_split(tmp_path, people) == wanted
    for content, words in (("[", "JSON"), ("{}", "train: expected"), ('{"train": 1}', "train: ")):
        (tmp_path / "train_test_split.json").write_text(content)
        with pytest.raises(SourceError, match="train_test_split.json: .*" + words):
            released_split(tmp_path, people)


def test_faults_of_the_whole_set(tmp_path, capture):
    with pytest.raises(SourceError, match="expected the data set's folder"):
        opened(tmp_path / "nothing")
    with pytest.raises(SourceError, match="annotation_train: expected subject0000.csv"):
        opened(tmp_path)
    with pytest.raises(SourceError, match="person subject0001") as error:
        opened(capture[0]).read("subject0001")
    assert error.value.reason == "missing_person"
    with pytest.raises(SourceError, match="takes no supplementary file"):
        open_source({"source": "eth_xgaze", "root": str(capture[0])}, supplementary="x.h5")
