"""Columbia Gaze: angles from file names, focal lengths from EXIF."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from regaze.sources import SourceError, open_source, source_options
from regaze.sources.columbia import HEADS, HORIZONTAL, VERTICAL, parse_name
from regaze.sources.tables import LANDMARKS


def photo(path, focal_mm=None, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if focal_mm is not None:
        exif.get_ifd(0x8769)[0x920A] = focal_mm
    Image.new("RGB", size).save(path, exif=exif)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "columbia"
    photo(root / "0001/0001_2m_-15P_10V_-5H.jpg", 85.0)
    photo(root / "0001/0001_2m_0P_-10V_15H.jpg")
    photo(root / "0002/0002_2m_0P_0V_0H.JPG", 0.0)
    (root / "0001/Thumbs.db").write_text("litter")
    (root / "__MACOSX").mkdir()
    (root / "landmarks.csv").write_text(",".join(["file_name", *LANDMARKS]) + "\n")
    return root


def opened(root, **options):
    return open_source({"source": "columbia", "root": str(root), **options})


@given(st.sampled_from(HEADS), st.sampled_from(VERTICAL), st.sampled_from(HORIZONTAL))
def test_names_are_parsed(head, vertical, horizontal):
    name = f"0042_2m_{head}P_{vertical}V_{horizontal}H.jpg"
    assert parse_name(name) == ("0042", head, vertical, horizontal)


@pytest.mark.parametrize(
    "name",
    [
        "0001_2m_0P_0V_0H.png",
        "0001_2m_0P_0V.jpg",
        "0001_3m_0P_0V_0H.jpg",
        "001_2m_0P_0V_0H.jpg",
        "0001_2m_0P_0V_0H.jpg.txt",
        "x0001_2m_0P_0V_0H.jpg",
        "0001_2m_+15P_0V_0H.jpg",
        "0001_2m_5P_0V_0H.jpg",
        "0001_2m_0P_15V_0H.jpg",
        "0001_2m_0P_0V_20H.jpg",
        "0001_2m_0P_0V_0H.jpg\n",
        "٠٠٠١_2m_0P_0V_0H.jpg",
    ],
)
def test_other_names_cost_their_person_and_are_told(root, name):
    with pytest.raises(ValueError, match="expected"):
        parse_name(name)
    (root / "0001" / name).write_bytes(b"")
    with pytest.raises(SourceError, match="person 0001: .*expected") as error:
        opened(root).photos("0001")
    assert error.value.reason == "bad_file_name"
    assert len(error.value.file_names) == 3
    assert len(opened(root).photos("0002")) == 1


def test_photos_of_another_person_are_told(root):
    photo(root / "0001/0002_2m_0P_0V_0H.jpg")
    with pytest.raises(SourceError, match="this person, found 0001/0002_2m_0P_0V_0H.jpg"):
        opened(root).photos("0001")


def test_angles_and_cameras(root):
    options = source_options({"source": "columbia", "root": str(root)})
    assert options.needs_landmarks() and not options.brings_landmarks() and options.files() == {}
    source = open_source(options)
    assert (source.kind, source.persons) == ("columbia", ["0001", "0002"])
    photos = source.photos("0001")
    assert photos.file_name == (
        "0001/0001_2m_-15P_10V_-5H.jpg",
        "0001/0001_2m_0P_-10V_15H.jpg",
    )
    # up is positive; H < 0 looks to the image's left, where yaw is positive
    np.testing.assert_allclose(np.degrees(photos.gaze_angles), [[10, 5], [-10, -15]])
    assert photos.gaze_known and np.isnan(photos.gaze_target).all() and photos.landmarks is None
    expected = [60 * 85 / 22.3, 60 * 19720 / 5184]
    np.testing.assert_allclose(photos.camera_parameters[:, 0], expected)
    np.testing.assert_allclose(photos.camera_parameters[:, 2:], [[30, 20]] * 2)
    assert "1 of 2 photos" in source.camera_assumption("0001")
    np.testing.assert_allclose(source.photos("0002").camera_parameters[:, 1], expected[1])
    with pytest.raises(SourceError, match="supplementary"):
        source.read("0001")


def test_signs_and_focal_length_can_be_configured(root):
    source = opened(root, h_sign=1, v_sign=-1, focal=123.0)
    photos = source.photos("0001")
    np.testing.assert_allclose(np.degrees(photos.gaze_angles), [[-10, -5], [10, 15]])
    np.testing.assert_allclose(photos.camera_parameters[:, :2], 123.0)
    assert "123 pixels" in source.camera_assumption("0001")


def test_landmarks_from_a_table(root):
    path = root / "landmarks.csv"
    points = np.random.default_rng(0).random((68, 2)) * 40
    line = ",".join(["0001/0001_2m_0P_-10V_15H.jpg", *map(repr, points.ravel().tolist())])
    path.write_text(path.read_text() + line + "\n")
    options = source_options({"source": "columbia", "root": str(root), "landmarks": str(path)})
    assert options.brings_landmarks() and options.files() == {"landmarks": str(path)}
    photos = open_source(options).photos("0001")
    np.testing.assert_array_equal(photos.landmarks[1], points)
    assert np.isnan(photos.landmarks[0]).all()
    path.write_text(path.read_text() + "0001/x.jpg,1\n")
    with pytest.raises(SourceError, match="landmarks.csv: line 3") as error:
        open_source(options).photos("0001")
    assert len(error.value.file_names) == 2


def test_damaged_photos_are_listed_without_a_camera(root):
    path = root / "0002/0002_2m_0P_0V_0H.JPG"
    path.write_bytes(path.read_bytes()[:30])
    photos = opened(root).photos("0002")
    assert len(photos) == 1 and np.isnan(photos.camera_parameters).all()


def test_faults_of_the_whole_data_set(root, tmp_path):
    with pytest.raises(SourceError, match="nothing"):
        opened(tmp_path / "nothing")
    with pytest.raises(SourceError, match="none.csv"):
        opened(root, landmarks=str(tmp_path / "none.csv"))
    (root / "0003").mkdir()
    with pytest.raises(SourceError, match="person 0003: expected photos, found none"):
        opened(root).photos("0003")
    photo(root / "0001_2m_0P_0V_0H.jpg")
    with pytest.raises(SourceError, match="1 photos beside them"):
        opened(root)
