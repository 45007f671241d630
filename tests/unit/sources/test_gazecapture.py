"""GazeCapture's layout: labels from the supplementary file, photos from the JSON files."""

import json
import os

import h5py
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from regaze.sources import SourceError, open_source, source_options
from regaze.sources.devices import SCREENS, points_to_camera

CAMERA = np.array([[1.5, -2.0], [-0.25, -9.0], [3.0, -4.5], [0.0, -1.0]])
ORIENTATION = [1, 3, 4, 2]


def columns(rows=3):
    return {
        "file_name": np.array([f"p1/frames/{i:05d}.jpg".encode() for i in range(rows)]),
        "camera_parameters": np.tile([900.0, 900.0, 320.0, 240.0], (rows, 1)),
        "distortion_parameters": np.zeros((rows, 4)),
        "head_pose": np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 500.0], (rows, 1)),
        "3d_gaze_target": np.zeros((rows, 3)),
    }


def write(path, persons):
    with h5py.File(path, "w") as file:
        for person, data in persons.items():
            for key, values in data.items():
                file.create_dataset(f"{person}/{key}", data=values)


def write_json(path, **content):
    path.write_text(json.dumps(content))


@pytest.fixture
def raw(tmp_path):
    """One person with four frames, held in four ways, without a supplementary file."""
    folder = tmp_path / "00002"
    (folder / "frames").mkdir(parents=True)
    names = [f"{number:05d}.jpg" for number in range(4)]
    for name, orientation in zip(names, ORIENTATION, strict=True):
        size = (480, 640) if orientation < 3 else (640, 480)
        Image.new("RGB", size).save(folder / "frames" / name)
    (folder / "frames.json").write_text(json.dumps(names))
    write_json(
        folder / "appleFace.json",
        X=[10.5, 0, 5, 7],
        Y=[20.0, 0, 5, 7],
        W=[100.0, 0, 5, 0],
        H=[120.0, 0, 5, 9],
        IsValid=[1, 0, 1, 1],
    )
    size = np.array([(375, 667) if one < 3 else (667, 375) for one in ORIENTATION])
    screen = SCREENS["iPhone 6"]
    # Dots are a linear function of points, on each axis.
    zero, one = (
        points_to_camera(np.full((4, 2), value), ORIENTATION, size, screen) for value in (0.0, 1.0)
    )
    points = (CAMERA - zero) / (one - zero)
    write_json(
        folder / "dotInfo.json",
        DotNum=[0] * 4,
        XPts=points[:, 0].tolist(),
        YPts=points[:, 1].tolist(),
        XCam=CAMERA[:, 0].tolist(),
        YCam=CAMERA[:, 1].tolist(),
        Time=[0.0] * 4,
    )
    write_json(
        folder / "screen.json",
        W=size[:, 0].tolist(),
        H=size[:, 1].tolist(),
        Orientation=ORIENTATION,
    )
    write_json(folder / "info.json", TotalFrames=4, Dataset="train", DeviceName="iPhone 6")
    return tmp_path


def opened(root, **options):
    return open_source({"source": "gazecapture", "root": str(root), **options})


def change(path, **entries):
    content = json.loads(path.read_text())
    content.update(entries)
    path.write_text(json.dumps({key: one for key, one in content.items() if one is not None}))


@pytest.mark.parametrize("name", ["supplementary.h5", "GazeCapture_supplementary.h5"])
def test_labels_come_from_the_supplementary_file(tmp_path, name):
    write(tmp_path / name, {"p2": columns(), "p1": columns()})
    options = source_options({"source": "gazecapture", "root": str(tmp_path)})
    assert not options.needs_landmarks()
    assert options.files() == {"supplementary": str(tmp_path / name)}
    source = open_source(options)
    assert (source.kind, source.persons) == ("gazecapture", ["p1", "p2"])
    records = source.read("p1")
    assert records.root / records.file_name[2] == tmp_path / "p1/frames/00002.jpg"


def test_a_named_file_comes_before_the_default_and_an_override_before_both(tmp_path):
    for name, person in (("supplementary.h5", "p1"), ("mine.h5", "p2"), ("made.h5", "p3")):
        write(tmp_path / name, {person: columns()})
    mine = str(tmp_path / "mine.h5")
    entry = {"source": "gazecapture", "root": str(tmp_path), "supplementary": mine}
    assert source_options(entry).files() == {"supplementary": mine}
    assert open_source(entry).persons == ["p2"]
    shards = [tmp_path / "made.h5", tmp_path / "supplementary.h5"]
    assert open_source(entry, supplementary=shards).persons == ["p1", "p3"]
    assert open_source(entry, supplementary=shards[0]).persons == ["p3"]


def test_synthetic_opens_as_gazecapture_with_landmarks(tmp_path):
    write(tmp_path / "supplementary.h5", {"p1": columns()})
    landmarks = np.random.default_rng(0).random((3, 68, 2))
    write(tmp_path / "parameters.h5", {"p1": {"landmarks": landmarks}})
    source = open_source({"source": "synthetic", "root": str(tmp_path)})
    assert source.kind == "synthetic"
    np.testing.assert_array_equal(source.read("p1").landmarks, landmarks)
    options = source_options({"source": "gazecapture", "root": str(tmp_path)})
    assert set(options.files()) == {"supplementary", "parameters"}


def test_bare_photos_carry_what_the_json_files_say(raw):
    options = source_options({"source": "gazecapture", "root": str(raw)})
    assert options.needs_landmarks() and options.files() == {}
    source = open_source(options)
    assert source.persons == ["00002"]
    photos = source.photos("00002")
    assert photos.file_name == tuple(f"00002/frames/{number:05d}.jpg" for number in range(4))
    expected = np.concatenate([-10 * CAMERA, np.zeros((4, 1))], axis=1)
    np.testing.assert_allclose(photos.gaze_target, expected)
    assert np.isnan(photos.gaze_angles).all() and photos.gaze_known
    np.testing.assert_array_equal(photos.face_box[0], [10.5, 20.0, 100.0, 120.0])
    # not valid, and valid but without any height: listed all the same
    assert np.isfinite(photos.face_box).all(axis=1).tolist() == [True, False, True, False]
    focal = 31 / np.hypot(36, 24) * 1.25 * 640
    upright, sideways = [focal, focal, 240, 320], [focal, focal, 320, 240]
    np.testing.assert_allclose(
        photos.camera_parameters, [upright, sideways, sideways, upright], rtol=1e-12
    )
    assert photos.distortion.shape == (4, 5) and not photos.distortion.any()
    assert "iPhone 6: 31 mm" in source.camera_assumption("00002")
    with pytest.raises(SourceError, match="GazeCapture_supplementary.h5, found photos"):
        source.read("00002")


def test_targets_are_found_from_points_on_the_screen(raw):
    change(raw / "00002/dotInfo.json", XCam=None, YCam=None)
    expected = np.concatenate([-10 * CAMERA, np.zeros((4, 1))], axis=1)
    np.testing.assert_allclose(opened(raw).photos("00002").gaze_target, expected, atol=1e-9)
    change(raw / "00002/screen.json", Orientation=[1, 3, 9, 2])
    lost = np.isnan(opened(raw).photos("00002").gaze_target).all(axis=1)
    assert lost.tolist() == [False, False, True, False]
    change(raw / "00002/info.json", DeviceName="Tricorder")
    with pytest.raises(SourceError, match="XCam: .*iPad Air.*'Tricorder'"):
        opened(raw).photos("00002")


@pytest.mark.parametrize(
    "options, factor",
    [
        ({"focal_factor": 0.7}, 0.7),
        ({"focal_factors": {"iphone 6": 0.8}, "focal_factor": 0.7}, 0.8),
        ({"focal_factors": {"iPad 2": 0.8}}, 31 / np.hypot(36, 24) * 1.25),
    ],
)
def test_the_focal_length_can_be_configured(raw, options, factor):
    source = opened(raw, **options)
    np.testing.assert_allclose(source.photos("00002").camera_parameters[:, 0], factor * 640)
    assert f"{factor:.4g}" in source.camera_assumption("00002")


def test_damaged_photos_and_labels_cost_their_own_rows_only(raw):
    folder = raw / "00002"
    (folder / "frames/00001.jpg").write_bytes(b"")
    (folder / "frames.json").write_text('["00000.jpg", "00001.jpg", "../../x.jpg", "\\ud800.jpg"]')
    text = (folder / "dotInfo.json").read_text()
    (folder / "dotInfo.json").write_text(text.replace("1.5", "NaN").replace("-9.0", "1e999"))
    photos = opened(raw).photos("00002")
    assert photos.file_name[3] == "00002/frames/\\ud800.jpg"
    assert "".join(photos.file_name).encode("utf-8")
    finite = np.isfinite(photos.camera_parameters).all(axis=1)
    assert finite.tolist() == [True, False, False, False]
    lost = np.isnan(photos.gaze_target).any(axis=1)
    assert lost.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "file, entries, reason, words",
    [
        ("appleFace.json", {"W": None}, "missing_key", ["W", "IsValid"]),
        ("appleFace.json", {"W": [1, 2]}, "bad_shape", ["W", "4", "found 2"]),
        ("appleFace.json", {"W": 3}, "bad_shape", ["W", "found 3"]),
        ("appleFace.json", {"IsValid": [1, 1, 1, "x"]}, "bad_shape", ["entry 3", "'x'"]),
        ("dotInfo.json", {"YCam": None}, "missing_key", ["YCam"]),
        ("dotInfo.json", {"XCam": [1, None, 3, 4]}, "bad_shape", ["XCam", "entry 1", "None"]),
        ("dotInfo.json", {"XCam": None, "YCam": None, "XPts": None}, "missing_key", ["XPts"]),
        ("info.json", {"DeviceName": None}, "missing_key", ["DeviceName"]),
        ("info.json", {"DeviceName": 6}, "missing_key", ["DeviceName"]),
    ],
)
def test_a_fault_names_file_key_found_and_expected(raw, file, entries, reason, words):
    change(raw / "00002" / file, **entries)
    with pytest.raises(SourceError) as error:
        opened(raw).photos("00002")
    assert error.value.reason == reason
    assert len(error.value.file_names) == 4
    for word in ["00002", file, *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("file", ["frames", "appleFace", "dotInfo", "info"])
@pytest.mark.parametrize("content", [None, "", "[1", "[" * 100_000, "3", "null", "\xff"])
def test_files_that_are_missing_or_no_json(raw, file, content):
    path = raw / "00002" / f"{file}.json"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SourceError, match=f"{file}.json: ") as error:
        opened(raw).photos("00002")
    assert len(error.value.file_names) == (0 if file == "frames" else 4)


def test_faults_of_the_whole_data_set(tmp_path):
    with pytest.raises(SourceError, match="nothing"):
        opened(tmp_path / "nothing")
    (tmp_path / "notes").mkdir()
    with pytest.raises(SourceError, match="supplementary.h5.*frames.json"):
        opened(tmp_path)
    (tmp_path / "supplementary.h5").write_text("text")
    with pytest.raises(SourceError, match="HDF5"):
        opened(tmp_path)
    with pytest.raises(SourceError, match="mine.h5"):
        opened(tmp_path, supplementary=str(tmp_path / "mine.h5"))
    write(tmp_path / "supplementary.h5", {})
    with pytest.raises(SourceError, match="group per person"):
        opened(tmp_path)
    write(tmp_path / "supplementary.h5", {"p1": columns()})
    with pytest.raises(SourceError) as error:
        opened(tmp_path).read("p9")
    assert error.value.reason == "missing_person"


@pytest.mark.parametrize("person", ["p9", "../p9"])
def test_a_person_without_a_folder(raw, person):
    with pytest.raises(SourceError, match="person's folder") as error:
        opened(raw).photos(person)
    assert error.value.reason == "missing_person"


def test_a_person_without_a_name_that_can_be_stored(raw):
    (raw / "00002").rename(os.fsdecode(os.fsencode(raw) + b"/p\xff"))
    with pytest.raises(SourceError, match=r"found p\\udcff"):
        opened(raw)


def test_options_are_checked():
    for entry in ({"focal_factor": 0}, {"focal_factors": {"iPad": -1}}, {"rot": 3}):
        with pytest.raises(ValidationError):
            source_options({"source": "gazecapture", "root": "x", **entry})


def test_a_rendered_capture_needs_the_folder_it_was_rendered_to():
    with pytest.raises(SourceError, match="root: expected the folder of the rendered capture"):
        open_source({"source": "synthetic"})
