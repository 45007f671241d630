"""Irises in photos, moved by hand.

Offsets are in widths of the eye between its corners, pitch-wise (up) and yaw-wise (towards the left
of the picture), so that they have the signs of gaze labels.
"""

from __future__ import annotations

import cv2
import numpy as np

from regaze.angles import vector_from_angles
from regaze.landmarks.irises import LIDS
from regaze.landmarks.mesh import Face

_CORNERS = ([36, 39], [42, 45])
"""Of the 68 landmarks, for the person's right and left eye: the left one in the picture first."""
DEPTH = 10.4 / 30.0
"""From the eye's centre of rotation to the iris' plane, in widths of an eye: the 10.4 mm of the
renderer's limbus over an adult's 30 mm between the corners."""
_RIM = 1.12
"""Radius of what is cut out, in that of the iris: its rim is soft."""
_LEAST_WEIGHT = 1e-3


def offset_of(gaze: np.ndarray) -> np.ndarray:
    """Offsets (..., 2) that irises have by geometry at gazes (..., 2) in radians.

    Of a face that looks at the camera; a turned one shows its eyes narrower, which is left out.
    """
    seen = vector_from_angles(gaze)
    return DEPTH * np.stack([seen[..., 1], seen[..., 0]], -1)


def move_irises(photo: np.ndarray, face: Face, move: np.ndarray) -> np.ndarray:
    """A photo whose irises are cut out and put elsewhere between the lids, which stay.

    What they leave is filled with the white of the eye around, what of them the lids hid with its
    mirror image.

    Args:
        photo: (H, W, 3) uint8.
        face: the mesh on it.
        move: (2,) change of :func:`offset_of`.
    """
    made = photo.copy()
    for corners, lids, iris in zip(_CORNERS, LIDS, face.irises, strict=True):
        right, left = face.landmarks[corners]
        across = left - right
        down = np.array([-across[1], across[0]])
        _move_iris(made, face.points[list(lids)], iris, -move[0] * down - move[1] * across)
    return made


def _move_iris(photo: np.ndarray, lids: np.ndarray, iris: np.ndarray, move: np.ndarray) -> None:
    """Change one eye in place; ``lids`` (n, 2), ``iris`` (5, 2) and ``move`` (2,) in pixels."""
    size = np.array(photo.shape[1::-1])
    radius = float(np.linalg.norm(iris[1:] - iris[0], axis=1).mean())
    margin = 2.0 * radius + 2.0
    low = np.clip(np.floor(lids.min(axis=0) - margin), 0, size).astype(int)
    high = np.clip(np.ceil(lids.max(axis=0) + margin), 0, size).astype(int)
    if (high - low < 4).any():
        return
    area = photo[low[1] : high[1], low[0] : high[0]]
    eye, centre = area.astype(np.float32), iris[0] - low
    shape = eye.shape[1::-1]
    opening = _polygon(lids - low, shape)
    hole = opening * _disc(centre, _RIM * radius, shape)
    empty = eye + hole[..., None] * (_white(eye, opening, centre, radius) - eye)
    turn = np.array([[1.0, 0.0, move[0]], [0.0, 1.0, move[1]]])
    whole = cv2.warpAffine(
        _whole_iris(eye, opening, centre, radius),
        *(turn, shape),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    there = (opening * _disc(centre + move, radius, shape))[..., None]
    area[:] = np.clip(np.rint(empty + there * (whole - empty)), 0, 255).astype(np.uint8)


def _white(eye: np.ndarray, opening: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """The white of the eye (h, w, 3), smoothly going on where the iris is."""
    shape = eye.shape[1::-1]
    reach = max(1, round(0.15 * radius))
    inner = cv2.erode(opening, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    known = inner * (1.0 - _disc(centre, 1.25 * radius, shape))
    if known.sum() < 1.0:
        known = _brightest(eye, opening)
    colour = (eye * known[..., None]).sum(axis=(0, 1)) / known.sum()
    near = cv2.GaussianBlur(known, (0, 0), 0.7 * radius)[..., None]
    around = cv2.GaussianBlur(eye * known[..., None], (0, 0), 0.7 * radius)
    # Far from all that is known its mean, without a border.
    return (around + _LEAST_WEIGHT * colour) / (near + _LEAST_WEIGHT)


def _brightest(eye: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """The brightest tenth (h, w) between the lids, where nothing but iris is seen there."""
    grey = eye.mean(axis=2)
    inside = grey[opening > 0.5]
    least = np.quantile(inside, 0.9) if len(inside) else grey.min()
    return ((grey >= least) & ((opening > 0.5) | (len(inside) == 0))).astype(np.float32)


def _whole_iris(
    eye: np.ndarray, opening: np.ndarray, centre: np.ndarray, radius: float
) -> np.ndarray:
    """The iris (h, w, 3) with what the lids hide of it."""
    seen = cv2.GaussianBlur(cv2.erode(opening, np.ones((3, 3), np.uint8)), (0, 0), 0.5)
    flip = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 2.0 * centre[1]]])
    size = eye.shape[1::-1]
    below, seen_below = (cv2.warpAffine(one, flip, size) for one in (eye, seen))
    inside = (seen * _disc(centre, radius, size))[..., None]
    mean = (eye * inside).sum(axis=(0, 1)) / max(float(inside.sum()), _LEAST_WEIGHT)
    hidden = mean + seen_below[..., None] * (below - mean)
    return (hidden + seen[..., None] * (eye - hidden)).astype(np.float32)


def _polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Weights (h, w) float32 of a polygon (n, 2), with a rim of a pixel."""
    fine = 4
    mask = np.zeros((size[1] * fine, size[0] * fine), np.uint8)
    corners = np.rint(((points + 0.5) * fine - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, shift=4)
    return cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


def _disc(centre: np.ndarray, radius: float, size: tuple[int, int]) -> np.ndarray:
    """Weights (h, w) float32 of a disc; its rim is a tenth of its radius wide, at least a pixel."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    rim = max(1.0, 0.1 * radius)
    away = np.hypot(x - centre[0], y - centre[1])
    return np.clip((radius - away) / rim + 0.5, 0.0, 1.0).astype(np.float32)
