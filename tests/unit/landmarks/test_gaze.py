"""Gaze that irises, lids and head tell: drawn eyes, a portrait, what cannot be read."""

import cv2
import numpy as np
import pytest
from skimage import data

from regaze.landmarks.gaze import Unreadable, read_gaze, table
from regaze.landmarks.irises import CENTRES, CORNERS, LIDS, find_irises
from regaze.landmarks.mesh import MeshDetector
from regaze.photo_check.irises import move_irises, offset_of

PER_MM = 6.0


@pytest.fixture(scope="module")
def portrait():
    """A public-domain portrait by NASA, (512, 512, 3) uint8, with its mesh."""
    photo = data.astronaut()
    return photo, MeshDetector().faces(photo)[0]


def drawn(shift, colour=(70, 45, 30), skin=(190, 140, 110)):
    """A photo of two eyes, irises moved by ``shift`` mm right and down, and mesh points of them
    whose irises were not."""
    photo = np.full((200, 700, 3), skin, np.uint8)
    points = np.full((478, 2), 100.0)
    for (first, last), centre, lids, middle in zip(
        CORNERS, CENTRES, LIDS, ((160, 100), (500, 100)), strict=True
    ):
        angles = np.linspace(np.pi, 3 * np.pi, 16, endpoint=False)
        rim = np.stack([14.0 * np.cos(angles), 6.5 * np.sin(angles)], -1) * PER_MM
        points[list(lids)] = rim + middle
        points[first], points[last] = (np.add(middle, (x * 14 * PER_MM, 0)) for x in (-1, 1))
        points[centre : centre + 5] = middle
        mask = np.zeros(photo.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.rint(points[list(lids)]).astype(np.int32)], 1)
        eye = np.full_like(photo, 225)
        at = np.rint(np.add(middle, np.multiply(shift, PER_MM))).astype(int)
        cv2.circle(eye, at.tolist(), round(5.7 * PER_MM), colour, -1, cv2.LINE_AA)
        photo[mask > 0] = eye[mask > 0]
    return photo, points


@pytest.mark.parametrize("colour", [(70, 45, 30), (90, 120, 150), (20, 15, 12)])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.6, 0.0), (-1.2, 0.9), (0.5, -1.2)])
def test_discs_are_found_where_they_are(shift, colour):
    found = find_irises(*drawn(shift, colour), PER_MM)
    np.testing.assert_allclose(found.mesh, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.disc, shift, atol=0.35)
    assert found.width == pytest.approx(28.0) and 0.4 < found.opening < 0.5


def test_the_eyes_of_a_portrait_look_about_into_the_camera(portrait):
    photo, mesh = portrait
    width = np.linalg.norm(mesh.points[33] - mesh.points[263])
    reading = read_gaze(photo, mesh.points, np.radians([8.0, 0.0]), width / 96.0)
    assert np.abs(np.degrees(reading.gaze)).max() < 8.0
    assert (np.degrees(reading.error) > 1.0).all() and (np.degrees(reading.error) < 7.0).all()


def test_readings_follow_irises_that_are_moved(portrait):
    photo, mesh = portrait
    per_mm = np.linalg.norm(mesh.points[33] - mesh.points[263]) / 96.0

    def read(pitch, yaw):
        moved = move_irises(photo, mesh, offset_of(np.radians([pitch, yaw])))
        points = MeshDetector().faces(moved)[0].points
        return np.degrees(read_gaze(moved, points, np.zeros(2), per_mm).gaze)

    up, down, left, right = read(10, 0), read(-10, 0), read(0, 15), read(0, -15)
    assert up[0] - down[0] > 3.0 and left[1] - right[1] > 15.0
    assert abs(up[1] - down[1]) < 4.0 and abs(left[0] - right[0]) < 4.0


def test_landmarks_that_jitter_move_a_reading_little(portrait):
    photo, mesh = portrait
    per_mm = np.linalg.norm(mesh.points[33] - mesh.points[263]) / 96.0
    random = np.random.default_rng(0)
    # By a seventh of a millimetre.
    found = [
        read_gaze(photo, mesh.points + 0.1 * random.normal(size=(478, 2)), np.zeros(2), per_mm).gaze
        for _ in range(6)
    ]
    assert (np.degrees(np.std(found, axis=0)) < 2.0).all()


def test_closed_lids_and_turned_heads_tell_nothing():
    photo, points = drawn((0.0, 0.0))
    closed = points.copy()
    for lids in LIDS:
        closed[list(lids), 1] = 100.0 + 0.1 * (closed[list(lids), 1] - 100.0)
    with pytest.raises(Unreadable, match="lids are open by 0.05"):
        read_gaze(photo, closed, np.zeros(2), PER_MM)
    with pytest.raises(Unreadable, match="turned by -50 degrees"):
        read_gaze(photo, points, np.radians([0.0, -50.0]), PER_MM)


def test_eyes_at_the_rim_of_a_photo_are_no_error(portrait):
    photo, mesh = portrait
    top = int(mesh.points[159, 1]) + 2
    found = find_irises(photo[top:], mesh.points - [0, top], 2.0)
    assert np.isfinite(found.disc).all()


def test_expected_errors_are_positive():
    for name in ("pitch error", "yaw error"):
        assert min(table()[name].values()) >= 0 and max(table()[name].values()) > 0
