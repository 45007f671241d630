"""Eye regions as an input: of data sets, mirrored, of single faces."""

import numpy as np
import pytest
import torch

from regaze.estimators.settings import EstimatorSettings
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.masks.condition import MaskRows
from regaze.masks.painting import painted, parts_of_landmarks
from regaze.masks.regions import EyeRegionRows
from regaze.redirect.place import Place
from regaze.redirect.regions import SourceRegions
from regaze.redirectors.bench import Bench
from regaze.redirectors.gcgan.settings import ModelSettings

VGG = {"vgg": EstimatorSettings(arch="vgg", persons="train-redirector", preprocess="none")}
TOLD = {"classes": 6, "crop": "eye_strip"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    models = {"gcgan": ModelSettings(**{"class": "gcgan"})}
    return Bench("gcgan", models, VGG, tmp_path_factory.mktemp("regions"))


def test_skin_and_eyes_are_those_of_the_masks_and_the_rest_is_painted(bench):
    rows = np.flatnonzero(bench.inputs["eye_regions"].known)[:3]
    parts = bench.inputs["eye_regions"].read(rows)["parts"].numpy()
    masks = MaskRows({"names": ["head", "eyes"]}, bench.input_files["eye_regions"], bench.reader)
    head, eyes = (masks.read(rows)["masks"].numpy()[:, n] > 0 for n in (0, 1))
    assert np.array_equal(parts > 0, head | eyes)
    assert np.array_equal(np.isin(parts, (2, 5)), eyes)
    assert set(np.unique(parts)) == {0, 1, 2, 3, 4, 5}


def test_rows_without_masks_are_known_to_be_without(bench):
    regions = bench.inputs["eye_regions"]
    unknown = np.flatnonzero(~regions.known)
    assert len(unknown) and not regions.read(unknown)["parts"].any()
    assert regions.read(unknown[:1])["place"].tolist() == [[0, 0, 1, 1]]


def test_mirrored_faces_have_mirrored_regions(bench):
    plain, flipped = (bench.batch(flip=torch.full((4,), turn)) for turn in (False, True))
    assert torch.equal(flipped["source_parts"], plain["source_parts"].flip(-1))
    left, top, right, bottom = plain["source_place"].unbind(1)
    wanted = torch.stack([1 - right, top, 1 - left, bottom], 1)
    torch.testing.assert_close(flipped["source_place"], wanted)


def faces_of(path, side=32, gaze=0.0):
    """One face with landmarks, and its file."""
    attributes = FacesAttributes("custom", (side, side), 125.0, 600.0, "none", "example")
    with FacesWriter(path, attributes) as writer:
        labels = np.full((1, 8), gaze, np.float32)
        pixels = np.zeros((1, side, side, 3), np.uint8)
        writer.add_person("a", pixels, labels, landmarks=np.full((1, 68, 2), side / 2, np.float32))
    return FacesReader(path)


def test_masks_that_are_missing_or_of_another_size_are_refused(tmp_path):
    faces, larger = faces_of(tmp_path / "faces.h5"), faces_of(tmp_path / "larger.h5", 64)
    masks = tmp_path / "masks.h5"
    with pytest.raises(FileNotFoundError, match="masks.h5"):
        EyeRegionRows(TOLD, [masks], faces)
    EyeRegionRows.write_example(masks, TOLD, larger, np.ones(1, bool))
    with pytest.raises(ValueError, match=r"masks.h5.*a.*32.*64"):
        EyeRegionRows(TOLD, [masks], faces)


def test_gazes_in_degrees_are_refused(tmp_path):
    faces = faces_of(tmp_path / "faces.h5", gaze=12.5)
    EyeRegionRows.write_example(tmp_path / "masks.h5", TOLD, faces, np.ones(1, bool))
    with pytest.raises(ValueError, match=r"faces.h5: labels: expected gazes in radians.*12.5"):
        EyeRegionRows(TOLD, [tmp_path / "masks.h5"], faces)


def test_faces_without_landmarks_are_refused(tmp_path):
    attributes = FacesAttributes("custom", (32, 32), 125.0, 600.0, "none", "example")
    with FacesWriter(tmp_path / "faces.h5", attributes) as writer:
        labels = np.zeros((1, 8), np.float32)
        writer.add_person("a", np.zeros((1, 32, 32, 3), np.uint8), labels)
    faces = FacesReader(tmp_path / "faces.h5")
    EyeRegionRows.write_example(tmp_path / "masks.h5", TOLD, faces, np.ones(1, bool))
    with pytest.raises(ValueError, match="faces.h5: landmarks: expected 68 points of every face"):
        EyeRegionRows(TOLD, [tmp_path / "masks.h5"], faces)


def test_a_single_face_has_the_region_of_its_landmarks(bench):
    row = np.flatnonzero(bench.inputs["eye_regions"].known)[:1]
    wanted = bench.inputs["eye_regions"].read(row)
    marks, label = bench.reader.dataset("landmarks", row)[0], bench.reader.labels[row[0]]
    given = {"name": "a", "source": "a.jpg", "patch": bench.reader.pixels(row)[0]}
    given |= {"head": label[2:4], "gaze": label[:2]}
    maker = SourceRegions(TOLD, "", {})
    found, told = maker.of(Place(**given, landmarks=marks))
    assert told == "landmarks"
    torch.testing.assert_close(found["place"], wanted["place"])
    parts = parts_of_landmarks(marks.astype(float), label[:2], label[2:4])
    size = given["patch"].shape[1::-1]
    assert np.array_equal(found["parts"][0].numpy(), painted(parts, size))
    with pytest.raises(ValueError, match=r"a.jpg: this model draws eye regions.*found none"):
        maker.of(Place(**given))
