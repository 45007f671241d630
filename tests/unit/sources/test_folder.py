"""Any photos: how they are listed, and the tables that say more of them."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from regaze.sources import SourceError, open_source, source_options
from regaze.sources.tables import LANDMARKS


def photo(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    photo(root / "bert/b.JPEG", (30, 40))
    photo(root / "anna/10.png")
    photo(root / "anna/more/2.jpg", (100, 50))
    photo(root / "anna/1.jpg")
    (root / "anna/notes.txt").write_text("nothing")
    (root / "anna/._1.jpg").write_text("litter")
    (root / ".cache").mkdir()
    (root / "gaze.csv").write_text("not used unless it is named")
    return root


def opened(root, **options):
    return open_source({"source": "folder", "root": str(root), **options})


def table(root, name, header, *lines):
    path = root.parent / f"{name}.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return {name: str(path)}


def test_photos_are_listed_by_person_and_name(root):
    options = source_options({"source": "folder", "root": str(root)})
    assert options.needs_landmarks() and not options.brings_landmarks() and options.files() == {}
    source = open_source(options)
    assert (source.kind, source.persons) == ("folder", ["anna", "bert"])
    photos = source.photos("anna")
    assert photos.file_name == ("anna/1.jpg", "anna/10.png", "anna/more/2.jpg")
    expected = [[64, 64, 32, 24], [64, 64, 32, 24], [100, 100, 50, 25]]
    np.testing.assert_array_equal(photos.camera_parameters, expected)
    assert not photos.distortion.any() and photos.distortion.shape == (3, 5)
    for column in (photos.face_box, photos.gaze_target, photos.gaze_angles):
        assert np.isnan(column).all()
    assert not photos.gaze_known and photos.landmarks is None
    assert "1 x the width" in source.camera_assumption("anna")
    # the width counts, not the longer side
    np.testing.assert_array_equal(source.photos("bert").camera_parameters, [[30, 30, 15, 20]])
    np.testing.assert_array_equal(
        opened(root, focal_factor=1.5).photos("bert").camera_parameters, [[45, 45, 15, 20]]
    )
    with pytest.raises(SourceError, match="supplementary"):
        source.read("anna")


def test_all_photos_may_be_one_persons(root):
    photo(root / "0.bmp")
    source = opened(root, person="carla")
    assert source.persons == ["carla"]
    expected = ("0.bmp", "anna/1.jpg", "anna/10.png", "anna/more/2.jpg", "bert/b.JPEG")
    assert source.photos("carla").file_name == expected
    with pytest.raises(SourceError, match="1 photos beside them, the first 0.bmp; `person: NAME`"):
        opened(root)
    for name in ("", "a/b", ".", "..", "a\\b"):
        with pytest.raises(ValidationError):
            opened(root, person=name)


def test_cameras_from_a_table(root):
    lines = ["anna/1.jpg,1,2,3,4,.1,.2,0,0", "anna/*,5,6,7,8,0,0,0,.3", "*,9,9,9,9,0,0,0,0"]
    given = table(root, "intrinsics", "file_name,fx,fy,cx,cy,k1,k2,p1,p2", *lines)
    assert source_options({"source": "folder", "root": "x", **given}).files() == given
    source = opened(root, **given)
    photos = source.photos("anna")
    np.testing.assert_array_equal(photos.camera_parameters, [[1, 2, 3, 4], *[[5, 6, 7, 8]] * 2])
    np.testing.assert_array_equal(photos.distortion, [[0.1, 0.2, 0, 0], *[[0, 0, 0, 0.3]] * 2])
    np.testing.assert_array_equal(source.photos("bert").camera_parameters, [[9, 9, 9, 9]])
    assert "intrinsics.csv" in source.camera_assumption("anna")
    given = table(root, "intrinsics", "file_name,cx,cy,fx,fy", "anna/1.jpg,3,4,1,2")
    photos = opened(root, **given).photos("anna")
    np.testing.assert_array_equal(photos.camera_parameters, [[1, 2, 3, 4], *photos_default()])
    assert photos.distortion.shape == (3, 5)
    given = table(root, "intrinsics", "file_name,fx,fy,cx,cy", "anna/1.jpg,0,1,2,3")
    with pytest.raises(SourceError, match="intrinsics.csv: line 2: fx: .*above 0") as error:
        opened(root, **given).photos("anna")
    assert len(error.value.file_names) == 3


def photos_default():
    return [[64, 64, 32, 24], [100, 100, 50, 25]]


def test_gaze_from_a_table(root, caplog):
    given = table(
        root, "gaze", "file_name,target_x,target_y,target_z", "anna/1.jpg,1,2,3", "anna/x.jpg,,,"
    )
    photos = opened(root, **given).photos("anna")
    assert photos.gaze_known
    np.testing.assert_array_equal(photos.gaze_target[0], [1, 2, 3])
    assert np.isnan(photos.gaze_target[1:]).all() and np.isnan(photos.gaze_angles).all()
    assert "1 lines are of no photo of person anna, the first of anna/x.jpg" in caplog.text
    given = table(root, "gaze", "file_name,pitch,yaw", "anna/10.png,10,-20")
    photos = opened(root, **given).photos("anna")
    np.testing.assert_allclose(photos.gaze_angles[1], np.radians([10, -20]))
    assert np.isnan(photos.gaze_target).all()
    opened(root, **given).photos("bert")
    assert "no line is of a photo of person bert" in caplog.text
    given = table(root, "gaze", "file_name,pitch,yaw,target_x,target_y,target_z")
    with pytest.raises(SourceError, match="gaze.csv: line 1: expected the columns"):
        opened(root, **given)


def test_landmarks_from_a_table(root):
    points = np.random.default_rng(0).random((68, 2))
    line = ",".join(["anna/10.png", *map(repr, points.ravel().tolist())])
    given = table(root, "landmarks", ",".join(["file_name", *LANDMARKS]), line)
    options = source_options({"source": "folder", "root": str(root), **given})
    assert options.needs_landmarks() and options.brings_landmarks()
    photos = open_source(options).photos("anna")
    assert photos.landmarks.shape == (3, 68, 2)
    np.testing.assert_array_equal(photos.landmarks[1], points)
    assert np.isnan(photos.landmarks[[0, 2]]).all()


def test_names_that_are_no_utf8_are_spelled_out(root):
    raw = os.fsencode(root) + b"/bert/\xe9.jpg"
    os.rename(os.fsencode(root / "bert/b.JPEG"), raw)
    photos = opened(root).photos("bert")
    assert photos.file_name == ("bert/\\udce9.jpg",)
    assert photos.file_name[0].encode("utf-8")
    assert np.isnan(photos.camera_parameters).all()
    photo(root / "bert/\\udce9.jpg")
    with pytest.raises(SourceError, match="expected one file of that name, found two"):
        opened(root).photos("bert")
    os.rename(os.fsencode(root / "bert"), os.fsencode(root) + b"/b\xff")
    with pytest.raises(SourceError, match=r"UTF-8 names of persons, found b\\udcff"):
        opened(root)


def test_links_out_of_the_folder_are_refused(root, tmp_path):
    outside = photo(tmp_path / "outside.jpg")
    (root / "bert/inside.jpg").symlink_to(root / "anna/1.jpg")
    (root / "bert/nowhere.jpg").symlink_to("gone.jpg")
    photos = opened(root).photos("bert")
    assert photos.file_name == ("bert/b.JPEG", "bert/inside.jpg", "bert/nowhere.jpg")
    finite = np.isfinite(photos.camera_parameters).all(axis=1)
    assert finite.tolist() == [True, True, False]
    # a root that is a link itself is where the user points to
    (tmp_path / "link").symlink_to(root)
    assert len(opened(tmp_path / "link").photos("bert")) == 3
    (root / "bert/out.jpg").symlink_to(outside)
    with pytest.raises(SourceError, match=r"out.jpg: .*out of the data set to .*outside.jpg"):
        opened(root).photos("bert")
    (root / "anna/again").symlink_to(root / "anna")
    with pytest.raises(SourceError, match="again: expected a folder, found a link to one"):
        opened(root).photos("anna")
    (root / "dora").symlink_to(root / "anna")
    with pytest.raises(SourceError, match="dora: expected a folder, found a link to one"):
        opened(root)


def test_faults_of_the_whole_folder(root, tmp_path):
    with pytest.raises(SourceError, match="nothing"):
        opened(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="folder for each person, found none"):
        opened(tmp_path / "empty")
    with pytest.raises(SourceError, match=r"expected photos \(.jpg"):
        opened(tmp_path / "empty", person="anna").photos("anna")
    for person in ("carla", "..", ""):
        with pytest.raises(SourceError) as error:
            opened(root).photos(person)
        assert error.value.reason == "missing_person"
    with pytest.raises(SourceError, match="none.csv"):
        opened(root, gaze=str(tmp_path / "none.csv"))
    source = opened(root)
    shutil.rmtree(root / "anna")
    with pytest.raises(SourceError, match="photos/anna: No such file or directory"):
        source.photos("anna")
