"""Irises, sharpness and slopes: what a check of photos measures."""

import cv2
import numpy as np
import pytest
from skimage import data

from regaze.estimators.xgaze import XGazeResnet
from regaze.face3d.photo_faces import PhotoFace
from regaze.landmarks.irises import LIDS
from regaze.landmarks.mesh import Face, MeshDetector
from regaze.photo_check.check import directions, listed
from regaze.photo_check.irises import DEPTH, move_irises, offset_of
from regaze.photo_check.measures import Judge, eye_sharpness, slopes, told
from regaze.redirect.place import Lens
from regaze.redirectors.patches import TrainedPatches


@pytest.fixture(scope="module")
def portrait():
    """A public-domain portrait by NASA, (512, 512, 3) uint8."""
    return data.astronaut()


@pytest.fixture(scope="module")
def mesh(portrait):
    return MeshDetector().faces(portrait)[0]


def test_offsets_have_the_signs_of_gaze():
    up, left = offset_of(np.radians([[10.0, 0.0], [0.0, 15.0]]))
    np.testing.assert_allclose(up, [DEPTH * np.sin(np.radians(10)), 0], atol=1e-12)
    np.testing.assert_allclose(left, [0, DEPTH * np.sin(np.radians(15))], atol=1e-12)


def test_the_control_moves_irises_between_the_lids_and_nothing_else(portrait, mesh):
    move = np.array([0.02, 0.09])
    made = move_irises(portrait, mesh, move)
    changed = np.abs(made.astype(int) - portrait).max(axis=2) > 0
    inside = np.zeros(portrait.shape[:2], np.uint8)
    for lids in LIDS:
        hull = cv2.convexHull(np.rint(mesh.points[list(lids)]).astype(np.int32))
        cv2.fillConvexPoly(inside, hull, 1)
    assert not changed[cv2.dilate(inside, np.ones((3, 3))) == 0].any()
    assert changed[inside > 0].mean() > 0.3
    # Where the iris went it is dark, where it was it is bright.
    for iris, corners in zip(mesh.irises, ([36, 39], [42, 45]), strict=True):
        across = np.subtract(*mesh.landmarks[corners[::-1]])
        down = np.array([-across[1], across[0]])
        new = iris[0] - move[1] * across - move[0] * down
        left = iris[0] + 0.14 * across
        darkness = [made[tuple(np.rint(at[::-1]).astype(int))].mean() for at in (new, left)]
        assert darkness[0] + 40 < darkness[1]


def test_the_control_of_no_move_is_nearly_the_photo(portrait, mesh):
    made = move_irises(portrait, mesh, np.zeros(2))
    assert np.abs(made.astype(int) - portrait).max(axis=2).mean() < 0.05
    for iris in mesh.irises:
        x, y = np.rint(iris[0]).astype(int)
        assert np.abs(made[y, x].astype(int) - portrait[y, x]).max() < 8


def test_eyes_at_the_rim_of_a_photo_are_let_alone(portrait, mesh):
    top = int(mesh.irises[:, 0, 1].max()) + 14
    cut = portrait[top:].copy()
    away = Face(mesh.points - [0, top], mesh.score, mesh.box)
    assert (move_irises(cut, away, np.array([0.0, 0.1])) == cut).all()


def test_sharpness_falls_with_blur_and_is_of_the_eyes_alone(portrait, mesh):
    points = mesh.landmarks
    sharp = eye_sharpness(portrait, points)
    soft = eye_sharpness(cv2.GaussianBlur(portrait, (0, 0), 1.5), points)
    assert 0.1 < soft / sharp < 0.7
    elsewhere = portrait.copy()
    elsewhere[int(points[30, 1]) :] = 0
    assert eye_sharpness(elsewhere, points) == sharp
    # Beyond 96 pixels of width an eye is averaged down: a larger copy is as sharp.
    large = [cv2.resize(portrait, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC) for k in (6, 10)]
    six, ten = (
        eye_sharpness(one, (points + 0.5) * k - 0.5) for one, k in zip(large, (6, 10), strict=True)
    )
    assert ten / six == pytest.approx(1, abs=0.1)


def test_slopes_are_of_lines_with_an_offset_per_photo():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(16, 2))
    groups = ["a"] * 8 + ["b"] * 8
    found = wanted * [0.5, 0.9] + np.array([[3.0, -2.0]] * 8 + [[-4.0, 1.0]] * 8)
    slope, share = slopes(wanted, found, groups)
    np.testing.assert_allclose(slope, [0.5, 0.9])
    np.testing.assert_allclose(share, 1.0)
    slope, share = slopes(wanted, found)
    assert share.max() < 0.6
    line = np.polyfit(wanted[:, 1], found[:, 1], 1)[0]
    assert slope[1] == pytest.approx(line)
    found[3] = np.nan
    np.testing.assert_allclose(slopes(wanted, found, groups)[0], [0.5, 0.9])
    assert told(*slopes(wanted, found, groups)) == "0.50 / 0.90 (1.00 / 1.00)"
    assert told(*slopes(wanted[:2], found[:2])) == "unknown"
    assert told(*slopes(wanted, np.zeros((16, 2)))) == "0.00 / 0.00 (- / -)"


def trained(pitch, yaw):
    told_of = {"patch_size": (128, 128), "looked_at": 9, "eyes": None, "colours": None}
    gaze = {"pitch": pitch, "yaw": yaw}
    return TrainedPatches.model_validate(told_of | {"gaze": gaze, "head": None})


def test_directions_go_around_the_own_gaze_within_what_was_trained():
    own = np.radians([3.0, -2.0])
    free = np.degrees(directions(own, None))
    np.testing.assert_allclose(free[0], [13, -2])
    np.testing.assert_allclose(free[2], [3, -17], atol=1e-9)
    assert len(free) == 8
    np.testing.assert_allclose(np.degrees(directions(own, trained((-30, 30), (-30, 30)))), free)
    # Near the rim the ellipse is moved in; where there is no room for it, it is made smaller.
    near = np.degrees(directions(np.radians([13.0, -30.0]), trained((-14, 14), (-19, 19))))
    np.testing.assert_allclose([near.min(0), near.max(0)], [[-6, -19], [14, 11]], atol=1e-9)
    small = np.degrees(directions(own, trained((-4, 8), (-5, 5))))
    np.testing.assert_allclose([small.min(0), small.max(0)], [[-4, -5], [8, 5]], atol=1e-9)


def test_photos_are_listed_once(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "one.png"), np.zeros((4, 4, 3), np.uint8))
    assert listed([tmp_path / "a"]) == [tmp_path / "a/one.png"]
    with pytest.raises(ValueError, match="expected photos of different names"):
        listed([tmp_path / "a", tmp_path / "b/one.png"])
    with pytest.raises(ValueError, match="found none"):
        listed([])


def test_published_judges_see_faces_as_eth_xgaze_shows_them(portrait, mesh):
    """224 px of a virtual camera of focal length 960 at 600 mm: 1.6 pixels per millimetre."""
    seen = []

    class Network(XGazeResnet):
        def __init__(self):
            super().__init__(18)

        def read(self, patches):
            seen.append(patches)
            return np.zeros((len(patches), 2))

    face = PhotoFace("a", 0, portrait, mesh.landmarks, "a.png")
    Judge.of(Network()).of_face("a.png", face, Lens())([portrait, portrait])
    (patches,) = seen
    assert patches.shape == (2, 224, 224, 3)
    points = MeshDetector().all_faces(patches[0])[0]
    eyes, nose = points[[36, 39, 42, 45]], points[[31, 35]]
    assert np.ptp(eyes[:, 0]) == pytest.approx(91.2 * 1.6, rel=0.08)
    # It looks at the mean of eyes and nose, and R is the red channel: skin is redder than blue.
    np.testing.assert_allclose((eyes.mean(0) + nose.mean(0)) / 2, [111.5, 111.5], atol=6)
    assert patches[0, 100:180, 70:150, 0].mean() > patches[0, 100:180, 70:150, 2].mean() + 20
