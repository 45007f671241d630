"""Any photos: how they are listed, and the tables that say more of them."""

import hashlib
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from regaze.normalise.photo import read_photo
from regaze.redirect.place import Lens
from regaze.sources import SourceError, open_source, photo_header, source_options
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
    assert "1 x the longer side" in source.camera_assumption("anna")
    # however the camera was held, as `regaze redirect` assumes it
    np.testing.assert_array_equal(source.photos("bert").camera_parameters, [[40, 40, 15, 20]])
    np.testing.assert_array_equal(Lens().camera((30, 40))[0], [40, 40, 15, 20])
    np.testing.assert_array_equal(
        opened(root, focal_factor=1.5).photos("bert").camera_parameters, [[60, 60, 15, 20]]
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


@pytest.mark.parametrize(
    "columns, factor",
    [("pitch,yaw", 1.0), ("pitch_deg,yaw_deg", 1.0), ("yaw_rad,pitch_rad", np.pi / 180.0)],
)
def test_the_unit_of_gaze_is_in_the_names_of_the_columns(root, caplog, columns, factor):
    pitch, yaw = 10 * factor, -20 * factor
    values = (yaw, pitch) if columns.startswith("yaw") else (pitch, yaw)
    line = ",".join(["anna/10.png", *map(repr, values)])
    photos = opened(root, **table(root, "gaze", f"file_name,{columns}", line)).photos("anna")
    np.testing.assert_allclose(photos.gaze_angles[1], np.radians([10, -20]))
    assert "expected degrees" not in caplog.text


def test_radians_in_columns_of_degrees_are_doubted(root, caplog):
    lines = ["anna/1.jpg,0.1,-1.55", "anna/10.png,-0.3,0.4"]
    opened(root, **table(root, "gaze", "file_name,pitch,yaw", *lines)).photos("anna")
    assert "gaze.csv: person anna: pitch, yaw: expected degrees, found none above 1.55" in (
        caplog.text
    )
    assert "columns pitch_rad, yaw_rad" in caplog.text
    caplog.clear()
    # everybody looks into the camera
    lines = ["anna/1.jpg,0,0", "anna/10.png,0,0"]
    opened(root, **table(root, "gaze", "file_name,pitch,yaw", *lines)).photos("anna")
    opened(root, **table(root, "gaze", "file_name,pitch,yaw", "anna/1.jpg,1,7")).photos("anna")
    assert "expected degrees" not in caplog.text


@pytest.mark.parametrize(
    "columns, line, message",
    [
        ("pitch,yaw", "anna/1.jpg,91,0", "pitch: expected at most 90 degrees, found 91"),
        ("pitch_deg,yaw_deg", "anna/1.jpg,0,-181", "yaw_deg: expected at most 180 degrees"),
        ("pitch_rad,yaw_rad", "anna/1.jpg,10,-20", "pitch_rad: expected at most 1.571 radians"),
        ("pitch_rad,yaw_rad", "anna/1.jpg,1,-20", "yaw_rad: expected at most 3.142 radians"),
    ],
)
def test_angles_that_there_are_not(root, columns, line, message):
    given = table(root, "gaze", f"file_name,{columns}", line)
    with pytest.raises(SourceError, match=f"gaze.csv: person anna: anna/1.jpg: {message}"):
        opened(root, **given).photos("anna")


def test_targets_in_metres_are_doubted(root, caplog):
    header = "file_name,target_x,target_y,target_z"
    opened(root, **table(root, "gaze", header, "anna/1.jpg,0.12,-0.3,0")).photos("anna")
    assert "target_z: expected millimetres, found nothing farther than 0.3" in caplog.text
    caplog.clear()
    opened(root, **table(root, "gaze", header, "anna/1.jpg,0,0,0")).photos("anna")
    opened(root, **table(root, "gaze", header, "anna/1.jpg,3,-40,0")).photos("anna")
    assert "expected millimetres" not in caplog.text


@pytest.mark.parametrize(
    "camera, doubted",
    [("60,60,30,25", 0), ("0.9,1.2,0.5,0.5", 2), ("600,600,320,240", 2), ("60,60,24,32", 0)],
)
def test_cameras_of_other_photos_are_doubted(root, caplog, camera, doubted):
    given = table(root, "intrinsics", "file_name,fx,fy,cx,cy", f"anna/1.jpg,{camera}",
                  f"anna/10.png,{camera}")  # fmt: skip
    opened(root, **given).photos("anna")
    assert (f"{doubted} of 3 cameras are hardly those" in caplog.text) == bool(doubted)
    assert doubted or "hardly" not in caplog.text


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


@pytest.mark.parametrize("layout", ["files/md5/{}/{}", "{}/{}"])
def test_links_into_dvcs_cache_are_photos(root, tmp_path, layout):
    """What `dvc config cache.type symlink` makes of a folder of photos."""
    plain = opened(root).photos("bert")
    content = (root / "bert/b.JPEG").read_bytes()
    name = hashlib.md5(content).hexdigest()
    stored = tmp_path / "cache" / layout.format(name[:2], name[2:])
    stored.parent.mkdir(parents=True)
    (root / "bert/b.JPEG").rename(stored)
    (root / "bert/b.JPEG").symlink_to(stored)
    photos = opened(root).photos("bert")
    assert photos.file_name == plain.file_name
    np.testing.assert_array_equal(photos.camera_parameters, plain.camera_parameters)
    assert read_photo(root / "bert/b.JPEG", root).shape == (40, 30, 3)


def test_files_that_are_left_out_are_counted_by_ending_and_person(root, caplog, monkeypatch):
    monkeypatch.setattr(photo_header, "heif_installed", lambda: False)
    for name in ("a.heic", "B.HEIC", "c.gif", "IMG_0001", "d.jpg.bak"):
        (root / "anna" / name).write_bytes(b"x")
    (root / "anna" / os.fsdecode(b"e.\xe9")).touch()
    for name in ("x.JFIF", "y.jpe"):
        Image.new("RGB", (64, 48)).save(root / "anna" / name, "JPEG")
    Image.new("RGB", (64, 48)).save(root / "anna" / "Z.AVIF")
    photos = opened(root).photos("anna")
    assert {"anna/x.JFIF", "anna/y.jpe", "anna/Z.AVIF"} < set(photos.file_name)
    assert np.isfinite(photos.camera_parameters).all()
    opened(root).photos("bert")
    assert "person anna: 6 photos; other files are left out: 2 .heic, " in caplog.text
    endings = ("1 .gif", "1 .\\udce9", "1 .txt", "1 .bak", "1 without ending")
    for count in (*endings, "the package pillow-heif"):
        assert count in caplog.text
    assert "person bert" not in caplog.text
    for path in (root / "bert").iterdir():
        path.rename(path.with_suffix(".heif"))
    with pytest.raises(
        SourceError, match=r"expected photos .*found none but 1 \.heif .*pillow-heif"
    ):
        opened(root).photos("bert")
    monkeypatch.setattr(photo_header, "heif_installed", lambda: True)
    assert opened(root).photos("bert").file_name == ("bert/b.heif",)


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
