"""Lens model and warp: agreement with OpenCV, one resampling against two, broken photos."""

import cv2
import numpy as np
import pytest

from regaze.normalise.camera import (
    COEFFICIENT_COUNTS,
    intrinsic_matrix,
    pad_distortion,
    project,
    undistort_points,
)
from regaze.normalise.geometry import VARIANTS, normalise
from regaze.normalise.warp import (
    make_patch,
    patch_map,
    undistortion_map,
)

CAMERA = np.array([600.0, 605.0, 318.0, 236.0])
LENS = pad_distortion(np.array([-0.12, 0.05, 0.001, -0.002, 0.01]))
POSE = [0.1, 0.2, 0.05, 30.0, -50.0, 480.0]


def drawn(width=640, height=480):
    """A smooth picture: two resamplings of a smooth picture differ little."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [np.sin(x / 17 + i) + np.cos(y / 13 - i) for i in range(3)]
    return np.clip(128 + 55 * np.stack(waves, -1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("count", COEFFICIENT_COUNTS)
def test_projection_agrees_with_opencv_and_is_undone(count):
    random = np.random.default_rng(count)
    coefficients = 0.02 * random.normal(size=count)
    points = random.normal(size=(1, 30, 3)) * [90, 70, 30] + [0, 0, 600]
    theirs = cv2.projectPoints(
        points[0], np.zeros(3), np.zeros(3), intrinsic_matrix(CAMERA), coefficients
    )[0][:, 0]
    padded = pad_distortion(coefficients)[None]
    mine = project(points, CAMERA[None], padded)
    np.testing.assert_allclose(mine[0], theirs, atol=1e-9)
    back = undistort_points(mine, CAMERA[None], padded)
    np.testing.assert_allclose(back, points[..., :2] / points[..., 2:], atol=1e-12)


def test_other_numbers_of_coefficients_are_refused():
    with pytest.raises(ValueError, match="found 6"):
        pad_distortion(np.zeros((3, 6)))


@pytest.mark.parametrize("name", sorted(VARIANTS))
@pytest.mark.parametrize("mode", ["same", "centred"])
def test_one_resampling_agrees_with_the_reference_order(name, mode):
    photo, variant = drawn(), VARIANTS[name]
    homography = normalise(CAMERA, POSE, [0, 0, 0], variant).homography[0]
    options = {"undistort_camera": mode}
    once = make_patch(photo, homography, CAMERA, LENS, variant.size, **options)
    twice = make_patch(
        photo, homography, CAMERA, LENS, variant.size, resampling="two_step", **options
    )
    assert once.shape == (variant.size[1], variant.size[0], 3) and once.dtype == np.uint8
    difference = np.abs(once.astype(int) - twice)
    assert difference.mean() < 0.5 and (difference > 3).mean() < 0.001


def test_two_step_is_opencv_undistort_then_warp():
    photo, variant = drawn(), VARIANTS["sted"]
    homography = normalise(CAMERA, POSE, [0, 0, 0], variant).homography[0]
    matrix = intrinsic_matrix(CAMERA)
    straight = cv2.undistort(photo, matrix, LENS, None, matrix)
    wanted = cv2.warpPerspective(straight, homography, variant.size)[..., ::-1]
    found = make_patch(photo, homography, CAMERA, LENS, variant.size, resampling="two_step")
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_without_a_camera_matrix_opencv_centres_the_principal_point():
    theirs = cv2.initUndistortRectifyMap(
        intrinsic_matrix(CAMERA), LENS, None, None, (64, 48), cv2.CV_32FC1
    )
    mine = undistortion_map(CAMERA, LENS, (64, 48), "centred")
    np.testing.assert_allclose(np.stack(mine), np.stack(theirs), atol=1e-4)


def test_map_is_the_inverse_of_the_homography_without_distortion():
    variant = VARIANTS["sted"]
    homography = normalise(CAMERA, POSE, [0, 0, 0], variant).homography[0]
    points = patch_map(homography, CAMERA, np.zeros(14), (640, 480), variant.size)
    ones = np.ones((*points.shape[:2], 1))
    back = np.concatenate([points, ones], -1).astype(np.float64) @ homography.T
    grid = np.stack(np.meshgrid(np.arange(128), np.arange(128)), -1)
    np.testing.assert_allclose(back[..., :2] / back[..., 2:], grid, atol=2e-3)


def test_outside_of_the_photo_is_black_even_where_the_lens_model_folds_back():
    fold = pad_distortion(np.array([-0.6, 0.0, 0.0, 0.0]))
    photo = np.full((480, 640, 3), 255, np.uint8)
    variant = VARIANTS["sted"]
    homography = normalise(CAMERA, [0, 0, 0, 230, 0, 400], [0, 0, 0], variant).homography[0]
    once = make_patch(photo, homography, CAMERA, fold, variant.size)
    twice = make_patch(photo, homography, CAMERA, fold, variant.size, resampling="two_step")
    assert (once == 0).any()
    assert ((once == 0) == (twice == 0)).mean() > 0.98


def test_a_turned_photo_one_pixel_wide_shows_nothing():
    photo = np.full((480, 1, 3), 255, np.uint8)
    for turned, shown in ((False, 255), (True, 0)):
        patch = make_patch(photo, np.eye(3), CAMERA, np.zeros(14), (8, 6), turned=turned)
        assert patch.shape == (6, 8, 3) and patch.max() == shown


def test_unknown_modes_are_refused():
    for options in ({"resampling": "thrice"}, {"undistort_camera": "left"}):
        with pytest.raises(ValueError, match="expected one of"):
            make_patch(drawn(), np.eye(3), CAMERA, LENS, (8, 8), **options)
