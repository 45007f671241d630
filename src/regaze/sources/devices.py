"""Phones and tablets of GazeCapture: screens, front cameras, and cameras that are only assumed.

Krafka et al., "Eye Tracking for Everyone" (CVPR 2016) and ``CSAILVision/GazeCapture``
(``apple_device_data.csv``, ``screen2cam``) give the screens and the four orientations. None of it
says anything about intrinsics: no calibration was published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regaze.sources.photo_header import photo_header


@dataclass(frozen=True)
class Screen:
    """A screen held upright, in millimetres.

    ``dx`` and ``dy`` lead from the screen's top left corner to the camera: ``dx`` to the right
    and ``dy`` up; ``width`` and ``height`` are the lit area's.
    """

    dx: float
    dy: float
    width: float
    height: float


SCREENS = {
    "iPhone 6s Plus": Screen(23.54, 8.66, 68.36, 121.54),
    "iPhone 6s": Screen(18.61, 8.04, 58.49, 104.05),
    "iPhone 6 Plus": Screen(23.54, 8.65, 68.36, 121.54),
    "iPhone 6": Screen(18.61, 8.03, 58.5, 104.05),
    "iPhone 5s": Screen(25.85, 10.65, 51.7, 90.39),
    "iPhone 5c": Screen(25.85, 10.64, 51.7, 90.39),
    "iPhone 5": Screen(25.85, 10.65, 51.7, 90.39),
    "iPhone 4s": Screen(14.96, 9.78, 49.92, 74.88),
    "iPad Mini": Screen(60.7, 8.7, 121.3, 161.2),
    "iPad Air 2": Screen(76.86, 7.37, 153.71, 203.11),
    "iPad Air": Screen(74.4, 9.9, 149.0, 198.1),
    "iPad 4": Screen(74.5, 10.5, 149.0, 198.1),
    "iPad 3": Screen(74.5, 10.5, 149.0, 198.1),
    "iPad 2": Screen(74.5, 10.5, 149.0, 198.1),
    "iPad Pro": Screen(98.31, 10.69, 196.61, 262.15),
}
"""Screens by ``DeviceName``, millimetres."""

FULL_FRAME_MM = {"iPhone 5s": 31.0, "iPhone 6": 31.0, "iPhone 6 Plus": 31.0}
"""Front cameras' focal length as EXIF states it for 35 mm film (macotakara.jp, entry 24645)."""

_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_FRAME_DIAGONAL = math.hypot(4.0, 3.0) / 4.0
"""Diagonal of a 4 : 3 frame over its longer side; GazeCapture's frames are 640 x 480."""

ASSUMED_FACTOR = 1.0
"""Focal length over the longer side of a frame where nothing is known."""


def canonical(device: str) -> str:
    """Return a ``DeviceName`` in the spelling of :data:`SCREENS`, or as it is when unknown."""
    wanted = " ".join(device.split()).lower()
    return next((name for name in SCREENS if name.lower() == wanted), device)


def focal_factor(
    device: str, override: float | None = None, by_device: dict[str, float] | None = None
) -> tuple[float, str]:
    """Return a front camera's focal length over the longer side of its frames, and why.

    Args:
        device: ``DeviceName``.
        override: the user's factor for all devices.
        by_device: the user's factors by ``DeviceName``; they come before ``override``.

    Returns:
        The factor and one line that states where it comes from.
    """
    name = canonical(device)
    for given, value in (by_device or {}).items():
        if canonical(given) == name:
            return value, f"as configured for {name}"
    if override is not None:
        return override, "as configured"
    if name in FULL_FRAME_MM:
        film = FULL_FRAME_MM[name]
        return film / _FILM_DIAGONAL_MM * _FRAME_DIAGONAL, f"{name}: {film:g} mm on 35 mm film"
    return ASSUMED_FACTOR, f"assumed, no focal length is known of {device}"


def assumed_camera(sizes: np.ndarray, factor: float | np.ndarray) -> np.ndarray:
    """Return fx, fy, cx, cy of square pixels with the principal point in the middle.

    Args:
        sizes: (N, 2) width and height of the photos, NaN where unknown.
        factor: focal length over the longer side, one or (N,).

    Returns:
        (N, 4) float64 pixels; NaN where the size is.
    """
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    focal = sizes.max(axis=1) * factor
    return np.stack([focal, focal, sizes[:, 0] / 2.0, sizes[:, 1] / 2.0], axis=1)


def photo_size(path: str | Path) -> tuple[int, int] | None:
    """Return width and height of a photo as it is shown, from its header alone.

    None when the file is missing, no regular file, or its header cannot be read.
    """
    header = photo_header(path)
    return None if header is None else header.shown


def photo_sizes(paths: Sequence[str | Path | None]) -> np.ndarray:
    """Return (N, 2) float64 width and height of photos, NaN where :func:`photo_size` is None."""
    sizes = [None if path is None else photo_size(path) for path in paths]
    return np.array([size or (np.nan, np.nan) for size in sizes], np.float64).reshape(-1, 2)


def _frames(screen: Screen, orientation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row where the camera is and how large the screen is, both (N, 2) mm.

    The place is that of the screen's top left corner, as the device is held, relative to the
    camera; x to the user's right, y up. NaN for an orientation other than 1 to 4.
    """
    dx, dy, width, height = screen.dx, screen.dy, screen.width, screen.height
    unknown = (np.nan,) * 4
    table = np.array(
        [
            unknown,
            (-dx, -dy, width, height),
            (dx - width, dy + height, width, height),
            (dy, width - dx, height, width),
            (-dy - height, dx, height, width),
        ]
    )
    orientation = np.asarray(orientation, np.float64)
    known = np.isin(orientation, (1, 2, 3, 4))
    rows = table[np.where(known, orientation, 0).astype(int)]
    return rows[:, :2], rows[:, 2:]


def points_to_camera(
    points: np.ndarray, orientation: np.ndarray, size: np.ndarray, screen: Screen
) -> np.ndarray:
    """Return dots on the screen relative to the camera, ``XCam`` and ``YCam``.

    Args:
        points: (N, 2) ``XPts``, ``YPts``: points from the top left of the screen as held.
        orientation: (N,) 1 portrait, 2 upside-down portrait, 3 landscape with the home button to
            the right, 4 to the left.
        size: (N, 2) ``W``, ``H`` of the screen as held, in points.
        screen: the device's screen.

    Returns:
        (N, 2) centimetres, x to the user's right, y up; NaN where the orientation is unknown or
        the screen has no size.
    """
    corner, extent = _frames(screen, orientation)
    size = np.asarray(size, np.float64)
    scale = extent / np.where(size > 0, size, np.nan)
    return (corner + np.asarray(points, np.float64) * scale * (1.0, -1.0)) / 10.0


def camera_to_target(camera: np.ndarray) -> np.ndarray:
    """Return gaze targets (N, 3) in mm in OpenCV camera axes of ``XCam``, ``YCam`` (N, 2) in cm.

    Frames are not mirrored, so the user's right is the image's left, and y points down: both
    change sign. The screen lies in the camera's plane.
    """
    camera = np.asarray(camera, np.float64)
    return np.concatenate([-10.0 * camera, np.zeros((len(camera), 1))], axis=1)
