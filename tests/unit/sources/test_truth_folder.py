"""A folder of photos of rendered heads, with all, some and none of the tables."""

import numpy as np
import pytest
from captures import photo_folder
from captures.checks import (
    assert_faces,
    assert_pixels,
    in_order,
    label_errors,
    posed_faces_of,
)
from PIL import Image

from regaze.sources import open_source


@pytest.mark.parametrize("gaze", ["target", "angles"])
def test_all_tables(tmp_path, gaze):
    truth, options = photo_folder.photo_folder(tmp_path / "root", gaze=gaze)
    reader = posed_faces_of(options, truth, tmp_path / "faces")
    assert reader.persons == ["anna", "bert"]
    assert_faces(reader, in_order(reader, truth), eyes=gaze == "target")


def test_no_tables(tmp_path):
    """Landmarks are looked for, the camera is assumed, gaze is not known and no row is lost."""
    people = photo_folder.photos(assumed=True)
    truth, options = photo_folder.photo_folder(
        tmp_path / "root", people, landmarks=False, intrinsics=False, gaze=None
    )
    assert set(options) == {"source", "root"}
    reader = posed_faces_of(options, truth, tmp_path / "faces")
    shots = in_order(reader, truth)
    errors = label_errors(reader.labels, shots)
    assert errors[:, 1].max() < 0.1
    assert np.isnan(errors[:, [0, 2, 3]]).all()
    assert_pixels(reader.pixels(reader.rows()), shots)


def test_one_person_without_folders(tmp_path):
    people = {"anna": photo_folder.photos()["anna"]}
    truth, options = photo_folder.photo_folder(tmp_path / "root", people, landmarks=False)
    truth = {("anna", name.removeprefix("anna/")): shot for (_, name), shot in truth.items()}
    options = {"source": "folder", "root": str(tmp_path / "root" / "anna"), "person": "anna"}
    source = open_source(options)
    assert source.persons == ["anna"]
    assert sorted(source.photos("anna").file_name) == sorted(name for _, name in truth)
    reader = posed_faces_of(options, truth, tmp_path / "faces", frame_check="none")
    errors = label_errors(reader.labels, in_order(reader, truth))
    assert errors[:, 1].max() < 0.5


def test_photos_that_exif_turns(tmp_path):
    """A phone stores the sensor's rows and says how to hold them; tables are of the photo held."""
    people = photo_folder.photos(assumed=True)
    truth, options = photo_folder.photo_folder(
        tmp_path / "root", people, intrinsics=False, gaze="target"
    )
    for (_, name), quarter_turns, orientation in zip(truth, (1, 3, 2), (6, 8, 3), strict=True):
        pixels = np.rot90(truth[name.split("/")[0], name].pixels, quarter_turns)
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = Image.fromarray(pixels)
        picture.save(tmp_path / "root" / name, "JPEG", quality=97, subsampling=0, exif=exif)
    reader = posed_faces_of(options, truth, tmp_path / "faces")
    assert_faces(reader, in_order(reader, truth))
