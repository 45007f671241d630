"""Which way is up and which is left, told from the pixels of the eyes and not by arithmetic."""

import cv2
import numpy as np
import pytest
from captures.checks import STED, faces_of, in_order
from captures.files import write_photo, write_supplementary
from captures.studio import Cast, photograph
from captures.truth import turn

from regaze.sources import open_source

_LOOKS = {
    # where they look from the camera's middle, mm: image right, down
    "left": (-190, 0),
    "right": (190, 0),
    "up": (0, -150),
    "down": (0, 150),
}
_TURNS = {"left": (0, 18), "right": (0, -18), "up": (14, 0), "down": (-14, 0)}


def _faces(folder, shots):
    """Through a GazeCapture folder; returns labels (degrees), patches and shots by name."""
    root, truth = folder / "root", {}
    for number, shot in enumerate(shots.values()):
        name = f"00002/frames/{number:05d}.jpg"
        write_photo(root / name, shot.pixels)
        truth["00002", name] = shot
    write_supplementary(root / "supplementary.h5", truth)
    reader = faces_of(open_source({"source": "gazecapture", "root": str(root)}), folder)
    assert in_order(reader, truth) == list(shots.values())
    labels = dict(zip(shots, np.degrees(reader.labels), strict=True))
    return labels, dict(zip(shots, reader.pixels(reader.rows()), strict=True))


def _pupil(patch, shot):
    """Mean x, y over both eyes of what is darkest between the lids, from the eyes' corners."""
    grey = cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2GRAY).astype(np.float32)
    marks = shot.patch_landmarks(*STED)
    out = []
    for first in (36, 42):
        outline = marks[first : first + 6]
        inside = np.zeros(grey.shape, np.uint8)
        cv2.fillConvexPoly(inside, np.round(outline * 16).astype(np.int32), 1, shift=4)
        ys, xs = np.nonzero(inside)
        dark = grey[ys, xs]
        weight = np.clip(np.percentile(dark, 35) - dark, 0, None)
        spot = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
        out.append(spot - outline[[0, 3]].mean(0))
    return np.mean(out, 0)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    lens = (400, 400, 160, 120)
    shots = {
        name: photograph(
            Cast(5), (320, 240), lens, np.zeros(5), turn(0, 0), (0, 0, 560), (*spot, 0)
        )
        for name, spot in _LOOKS.items()
    }
    return *_faces(tmp_path_factory.mktemp("eyes"), shots), shots


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    lens = (400, 400, 160, 120)
    shots = {
        name: photograph(
            Cast(5), (320, 240), lens, np.zeros(5), turn(*head), (0, 0, 560), (0, 0, 0)
        )
        for name, head in _TURNS.items()
    }
    return *_faces(tmp_path_factory.mktemp("heads"), shots), shots


def test_eyes_to_image_left_have_positive_yaw(eyes):
    labels, patches, shots = eyes
    pupils = {name: _pupil(patches[name], shots[name]) for name in shots}
    assert pupils["left"][0] < -1 and pupils["right"][0] > 1
    assert labels["left"][1] > 15 and labels["right"][1] < -15
    assert labels["left"][5] > 10 and labels["left"][7] > 10
    for name in shots:
        assert np.abs(labels[name][2:4]).max() < 0.1


def test_eyes_up_have_positive_pitch(eyes):
    labels, patches, shots = eyes
    pupils = {name: _pupil(patches[name], shots[name]) for name in shots}
    assert pupils["up"][1] < pupils["down"][1] - 2
    assert labels["up"][0] > 12 and labels["down"][0] < -12
    assert labels["up"][4] > 10 and labels["up"][6] > 10


def test_heads_to_image_left_and_up_have_positive_angles(heads):
    """The nose's tip moves against the middle between the eyes."""
    labels, _, shots = heads
    noses = {}
    for name, shot in shots.items():
        marks = shot.patch_landmarks(*STED)
        noses[name] = marks[30] - marks[36:48].mean(0)
    assert noses["left"][0] < -4 and noses["right"][0] > 4
    assert noses["up"][1] < noses["down"][1] - 4
    assert labels["left"][3] == pytest.approx(18, abs=0.1)
    assert labels["right"][3] == pytest.approx(-18, abs=0.1)
    assert labels["up"][2] == pytest.approx(14, abs=0.1)
    assert labels["down"][2] == pytest.approx(-14, abs=0.1)
    for name in shots:
        assert np.abs(labels[name][:2]).max() < 0.1
