"""Nearest triangles by orthographic ray casting with Embree; one layer per pixel, CPU.

Only the number of the triangle is taken from Embree. Rays run in float32, so the triangle found
for a centre on (or within rounding of) an edge is checked in float64 and, where the contract's
strict test fails, looked for again among all triangles around that pixel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from regaze.face3d.rasterize.grid import (
    EPSILON,
    column_of,
    double_area,
    drawn,
    half_extent,
    pixel_centres,
    weights_at,
)

_SLACK = 1e-3  # pixels: the bounding boxes below only have to be wide enough
_CLOSE = 5e-4  # NDC: surfaces nearer to each other than this may be taken for each other


@lru_cache(maxsize=16)
def _rays(height: int, width: int) -> np.ndarray:
    """Pixel centres (H, W, 3) float32 at z = 0; read-only."""
    x, y = pixel_centres(height, width)
    rays = np.zeros((height, width, 3), np.float32)
    rays[..., 0], rays[..., 1] = x, y[:, None]
    rays.flags.writeable = False
    return rays


@lru_cache(maxsize=4)
def _forward(count: int) -> np.ndarray:
    directions = np.zeros((count, 3), np.float32)
    directions[:, 2] = 1.0
    return directions


def _repeated(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray | None:
    """Mask (F,) of triangles that repeat the vertices of an earlier one; None if none does."""
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    base = int(high.max()) + 1
    keys = (low * base + (a + b + c - low - high)) * base + high
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return None
    mask = np.ones(len(keys), bool)
    mask[np.unique(keys, return_index=True)[1]] = False
    return mask


def hits(
    vertices: np.ndarray,
    faces: np.ndarray,
    height: int,
    width: int,
    layers: int = 1,
    perspective_correct: bool = False,
    cull_backfaces: bool = False,
) -> np.ndarray:
    """Nearest triangle of every pixel: int64 (H, W, 1), -1 where there is none.

    Arguments and meaning as :func:`regaze.face3d.rasterize.reference.hits`.
    """
    found = np.full((height, width, 1), -1, np.int64)
    vertices = np.asarray(vertices, np.float64)
    rx, ry = half_extent(height, width)
    corner_rows = np.ascontiguousarray(faces.T)
    left, right = _centres_within(column_of(vertices[:, 0], rx, width), corner_rows, width)
    top, bottom = _centres_within(column_of(vertices[:, 1], ry, height), corner_rows, height)
    # Embree's wrapper spends more on handing over a triangle than the tracing of it costs:
    # those that hold no pixel centre stay out.
    ids = np.flatnonzero((right >= left) & (bottom >= top))
    ids = ids[drawn(vertices[faces[ids]], cull_backfaces)]
    if not ids.size:
        return found
    # At equal depth the lower triangle wins, but Embree takes either of two that coincide.
    again = _repeated(*corner_rows[:, ids])
    ids = ids if again is None else ids[~again]
    first_row, first_column = top[ids].min(), left[ids].min()
    box = slice(first_row, bottom[ids].max() + 1), slice(first_column, right[ids].max() + 1)
    scene = _scene(vertices, faces[ids], perspective_correct)
    rays = np.ascontiguousarray(_rays(height, width)[box])
    first = scene.run(rays.reshape(-1, 3), _forward(rays.size // 3)).reshape(rays.shape[:2])
    rows, columns = np.nonzero(first >= 0)
    chosen = ids[first[rows, columns]]
    rows, columns = rows + first_row, columns + first_column
    found[rows, columns, 0] = chosen
    x, y = pixel_centres(height, width)
    weights = weights_at(vertices[faces[chosen]], x[columns], y[rows], False)
    boxes = left, right, top, bottom
    for index in np.flatnonzero(np.minimum.reduce(weights.T) <= 1e-6):
        row, column = rows[index], columns[index]
        near = ids[_around(boxes, ids, row, column)]
        corners = vertices[faces[near]]
        best = _nearest(corners, x[column], y[row], perspective_correct)
        found[row, column, 0] = -1 if best is None else near[best]
    return found


def _scene(vertices: np.ndarray, faces: np.ndarray, perspective_correct: bool):
    """Embree's scene of the triangles, in front of z = 0, with as few vertices as they need."""
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    points, corners = vertices[used], number[faces]
    if perspective_correct:
        # 1/z is linear over the picture where z itself is not, and keeps the order of depths.
        points[:, 2] = -1.0 / points[:, 2]
    else:
        points, corners = _own_depths(points, corners)
    points[:, 2] -= points[:, 2].min() - 1.0
    scene = rtcore_scene.EmbreeScene(robust=True)
    # The wrapper reads memory row by row, whatever the array's strides say.
    points = np.ascontiguousarray(points, np.float32)
    TriangleMesh(scene, points, np.ascontiguousarray(corners, np.int32))
    return scene


def _own_depths(points: np.ndarray, corners: np.ndarray):
    """Give triangles whose depth by the contract is not that of their plane vertices of their own.

    The contract's weights add up to ``area / (area + 1e-8)``, so that slivers come nearer (or
    recede, seen from behind); that decides which of two coinciding triangles is seen.
    """
    area = double_area(points[corners])
    share = area / (area + EPSILON)
    lowest, highest = points[:, 2].min(), points[:, 2].max()
    if lowest == highest:
        # A chart is flat and may overlap itself: its triangles are stacked in the order of their
        # depths, the lower one first where these are equal.
        rank = np.empty(len(corners))
        rank[np.argsort(share, kind="stable")] = np.arange(len(corners))
        flat = points[corners].reshape(-1, 3)
        flat[:, 2] = np.repeat(rank, 3)
        return flat, np.arange(corners.size, dtype=np.int32).reshape(-1, 3)
    moved = np.flatnonzero(np.abs(1.0 - share) * highest > _CLOSE)
    if not moved.size:
        return points, corners
    own = points[corners[moved]]
    own[..., 2] *= share[moved, None]
    corners = corners.copy()
    corners[moved] = len(points) + np.arange(3 * len(moved)).reshape(-1, 3)
    return np.concatenate([points, own.reshape(-1, 3)]), corners


def _centres_within(coordinates: np.ndarray, corners: np.ndarray, count: int):
    """First and last pixel number (F,) between three vertices; last < first where none is.

    Args:
        coordinates: (V,) fractional pixel numbers of the vertices.
        corners: (3, F) vertex numbers of the triangles.
        count: of pixels.
    """
    a, b, c = coordinates[corners]
    first = np.ceil(np.minimum(np.minimum(a, b), c) - _SLACK)
    last = np.floor(np.maximum(np.maximum(a, b), c) + _SLACK)
    first, last = np.clip(first, 0, count), np.clip(last, -1, count - 1)
    return first.astype(np.int64), last.astype(np.int64)


def _around(boxes, ids: np.ndarray, row: int, column: int) -> np.ndarray:
    """Mask of the triangles whose bounding box holds a pixel."""
    left, right, top, bottom = (side[ids] for side in boxes)
    return (left <= column) & (column <= right) & (top <= row) & (row <= bottom)


def _nearest(corners: np.ndarray, x: float, y: float, perspective_correct: bool) -> int | None:
    """Row of the triangle (N, 3, 3) that the contract gives for a point; None if there is none."""
    inside = np.flatnonzero((weights_at(corners, x, y, False) > 0).all(1))
    if not inside.size:
        return None
    weights = weights_at(corners[inside], x, y, perspective_correct)
    return int(inside[np.argmin((weights * corners[inside, :, 2]).sum(1))])
