"""Pixel centres and the rules by which a triangle is drawn at all; NumPy, float64.

Conventions of ``facebookresearch/pytorch3d`` (``rasterize_meshes``, blur 0): normalised device
coordinates with +x left, +y up and +z away. The shorter side of the picture spans [-1, 1].
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

EPSILON = 1e-8
"""Smallest depth of a vertex and smallest double area of a triangle that is drawn."""


def half_extent(height: int, width: int) -> tuple[float, float]:
    """Half width and half height (rx, ry) of the picture in NDC units; the shorter one is 1."""
    return max(1.0, width / height), max(1.0, height / width)


@lru_cache(maxsize=16)
def pixel_centres(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """NDC x (W,) of the columns from the left and y (H,) of the rows from the top; read-only."""
    rx, ry = half_extent(height, width)
    x = rx - rx * (2 * np.arange(width) + 1) / width
    y = ry - ry * (2 * np.arange(height) + 1) / height
    x.flags.writeable = y.flags.writeable = False
    return x, y


def column_of(x: np.ndarray, half: float, count: int) -> np.ndarray:
    """Fractional pixel number of NDC coordinates: the inverse of :func:`pixel_centres`."""
    return ((1.0 - x / half) * count - 1.0) / 2.0


def double_area(corners: np.ndarray) -> np.ndarray:
    """Twice the signed area (F,) of triangles (F, 3, 2 or 3) in the x, y plane.

    The sign is that of pytorch3d's edge function: ``e(v2; v0, v1)``.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]) - (c[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])


def drawn(corners: np.ndarray, cull_backfaces: bool) -> np.ndarray:
    """Which triangles (F, 3, 3) are drawn: bool (F,).

    A triangle is dropped whole when a vertex lies at z < 1e-8, when its double area is at most
    1e-8 and, with ``cull_backfaces``, when its area is negative.
    """
    area = double_area(corners)
    kept = (corners[:, :, 2] >= EPSILON).all(1) & (np.abs(area) > EPSILON)
    return kept & (area >= 0) if cull_backfaces else kept


def weights_at(
    corners: np.ndarray, x: np.ndarray | float, y: np.ndarray | float, perspective_correct: bool
) -> np.ndarray:
    """Barycentric weights (..., 3) of points x, y in triangles (..., 3, 3)."""
    (ax, ay, z0), (bx, by, z1), (cx, cy, z2) = np.moveaxis(corners, (-2, -1), (0, 1))
    area = (cx - ax) * (by - ay) - (cy - ay) * (bx - ax) + EPSILON
    w0 = ((x - bx) * (cy - by) - (y - by) * (cx - bx)) / area
    w1 = ((x - cx) * (ay - cy) - (y - cy) * (ax - cx)) / area
    w2 = ((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / area
    if perspective_correct:
        w0, w1, w2 = w0 * z1 * z2, w1 * z2 * z0, w2 * z0 * z1
        total = np.maximum(w0 + w1 + w2, EPSILON)
        w0, w1, w2 = w0 / total, w1 / total, w2 / total
    return np.stack([w0, w1, w2], -1)
