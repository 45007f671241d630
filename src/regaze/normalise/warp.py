"""From the photo to the patch.

``swook/faze_preprocess`` undistorts the whole photo and then warps it, which interpolates twice
and computes a map for every pixel of the photo. Here the two maps are composed and the patch is
read from the photo once (``one_step``); ``two_step`` keeps the reference order bit for bit.
Both: bilinear, constant zero border.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from regaze.normalise.camera import intrinsic_matrix

UNDISTORT_CAMERAS = ("same", "centred")
RESAMPLINGS = ("one_step", "two_step")

_OUTSIDE = np.float32(-1e4)


def undistorted_camera(camera: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Return fx, fy, cx, cy of the undistorted photo, (4,) float64.

    ``same`` keeps the camera; ``centred`` moves the principal point to the middle of the photo
    of ``size`` (width, height), which is what OpenCV does when it is given no new camera matrix
    and how the published MPIIGaze files came about.

    Raises:
        ValueError: another mode.
    """
    camera = np.asarray(camera, np.float64)
    if mode == "same":
        return camera
    if mode == "centred":
        return np.array([camera[0], camera[1], (size[0] - 1) / 2.0, (size[1] - 1) / 2.0])
    raise ValueError(f"undistort_camera: expected one of {UNDISTORT_CAMERAS}, found {mode!r}")


def transform_points(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (..., M, 2) mapped by homographies (..., 3, 3), float64, same shape."""
    ones = np.ones((*points.shape[:-1], 1))
    mapped = np.concatenate([points, ones], -1) @ np.swapaxes(homography, -1, -2)
    return mapped[..., :2] / mapped[..., 2:]


@lru_cache(maxsize=8)
def _pixel_axes(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(width, dtype=float)[None, :], np.arange(height, dtype=float)[:, None]


def patch_map(
    homography: np.ndarray,
    camera: np.ndarray,
    distortion: np.ndarray,
    photo_size: tuple[int, int],
    patch_size: tuple[int, int],
    undistort_camera: str = "same",
) -> np.ndarray:
    """Return where in the photo each pixel of the patch lies, (h, w, 2) float32 x, y.

    Args:
        homography: (3, 3) undistorted photo pixel -> patch pixel.
        camera: (4,) fx, fy, cx, cy of the photo.
        distortion: (14,) padded coefficients.
        photo_size: (width, height); patch pixels outside the *undistorted* photo point outside,
            as in the reference order. It also keeps points so far off the axis that the
            distortion polynomial turns back from landing in the photo.
        patch_size: (width, height).
        undistort_camera: ``same`` or ``centred``.
    """
    ideal = undistorted_camera(camera, photo_size, undistort_camera)
    from_ray = homography @ intrinsic_matrix(ideal)
    # To OpenCV the patch is a picture of a camera whose matrix is any 3 x 3 matrix.
    points, _ = cv2.initUndistortRectifyMap(
        intrinsic_matrix(camera), distortion, None, from_ray, tuple(patch_size), cv2.CV_32FC2
    )
    outside = _outside(np.linalg.inv(from_ray), patch_size, ideal, photo_size)
    if outside is not None:
        points[outside] = _OUTSIDE
    return points


def _corners(size: tuple[int, int]) -> np.ndarray:
    right, below = size[0] - 1.0, size[1] - 1.0
    return np.array([[0.0, right, 0.0, right], [0.0, 0.0, below, below], [1.0, 1.0, 1.0, 1.0]])


def _outside(to_ray, patch_size, camera, photo_size) -> np.ndarray | None:
    """Return the mask of patch pixels outside the undistorted photo; None when there are none.

    A homography maps the patch to a convex quadrilateral, so its four corners decide the usual
    case without looking at every pixel.
    """
    low = ((-1.0 - camera[2]) / camera[0], (-1.0 - camera[3]) / camera[1])
    high = ((photo_size[0] - camera[2]) / camera[0], (photo_size[1] - camera[3]) / camera[1])

    def inside(x, y, depth):
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = x / depth, y / depth
        return (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1]) & (depth > 0.0)

    if inside(*(to_ray @ _corners(patch_size))).all():
        return None
    across, down = _pixel_axes(*patch_size)
    rays = [row[0] * across + (row[1] * down + row[2]) for row in to_ray]
    return ~inside(*rays)


def undistortion_map(
    camera: np.ndarray,
    distortion: np.ndarray,
    photo_size: tuple[int, int],
    undistort_camera: str = "same",
) -> tuple[np.ndarray, np.ndarray]:
    """Return OpenCV's map of the whole photo, x and y, each (H, W) float32; see `patch_map`."""
    ideal = undistorted_camera(camera, photo_size, undistort_camera)
    return cv2.initUndistortRectifyMap(
        intrinsic_matrix(camera),
        np.asarray(distortion, np.float64),
        None,
        intrinsic_matrix(ideal),
        tuple(int(side) for side in photo_size),
        cv2.CV_32FC1,
    )


def make_patch(
    photo: np.ndarray,
    homography: np.ndarray,
    camera: np.ndarray,
    distortion: np.ndarray,
    patch_size: tuple[int, int],
    *,
    undistort_camera: str = "same",
    resampling: str = "one_step",
    turned: bool = False,
) -> np.ndarray:
    """Return the patch (h, w, 3) uint8 in R,G,B order of a photo (H, W, 3) uint8 in B,G,R order.

    Args are those of :func:`patch_map`; ``resampling`` is ``one_step`` or ``two_step``. With
    ``turned`` everything else refers to the photo turned by 180 degrees about (w/2, h/2).

    Raises:
        ValueError: an unknown mode.
    """
    photo_size = (photo.shape[1], photo.shape[0])
    half_turn = None
    if turned:
        # Pixel (x, y) of the turned photo is pixel (w - x, h - y) of the photo: its first row and
        # column lie outside, and the photo's own are lost. What is left is turned in the map.
        half_turn = np.array([photo_size[0] - 1, photo_size[1] - 1], np.float32)
        photo = photo[1:, 1:]
        if not photo.size:
            return np.zeros((patch_size[1], patch_size[0], 3), np.uint8)
    if resampling == "one_step":
        points = patch_map(homography, camera, distortion, photo_size, patch_size, undistort_camera)
        if half_turn is not None:
            np.subtract(half_turn, points, out=points)
        patch = cv2.remap(photo, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    elif resampling == "two_step":
        map_x, map_y = undistortion_map(camera, distortion, photo_size, undistort_camera)
        if half_turn is not None:
            map_x, map_y = half_turn[0] - map_x, half_turn[1] - map_y
        straight = cv2.remap(photo, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        patch = cv2.warpPerspective(straight, homography, tuple(patch_size))
    else:
        raise ValueError(f"resampling: expected one of {RESAMPLINGS}, found {resampling!r}")
    return cv2.cvtColor(patch, cv2.COLOR_BGR2RGB)
