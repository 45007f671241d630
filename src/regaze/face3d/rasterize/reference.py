"""The rasteriser's contract written out: one triangle at a time over its bounding box.

Slow, any number of layers per pixel, no dependency but NumPy. Tests hold the other backends
against it; it also serves several layers per pixel on the CPU.
"""

from __future__ import annotations

import numpy as np

from regaze.face3d.rasterize.grid import (
    column_of,
    drawn,
    half_extent,
    pixel_centres,
    weights_at,
)


def hits(
    vertices: np.ndarray,
    faces: np.ndarray,
    height: int,
    width: int,
    layers: int = 1,
    perspective_correct: bool = False,
    cull_backfaces: bool = False,
) -> np.ndarray:
    """Nearest ``layers`` triangles of every pixel: int64 (H, W, layers), -1 where there is none.

    Args:
        vertices: (V, 3) float64 NDC.
        faces: (F, 3) int64.

    A pixel is hit when all three weights of its centre are above 0 and the depth there is at
    least 0. Layers are sorted by depth; at equal depth the lower triangle comes first.
    """
    corners = np.asarray(vertices, np.float64)[faces]
    x, y = pixel_centres(height, width)
    rx, ry = half_extent(height, width)
    depth = np.full((height, width, layers), np.inf)
    found = np.full((height, width, layers), -1, np.int64)
    columns = column_of(corners[:, :, 0], rx, width)
    rows = column_of(corners[:, :, 1], ry, height)
    left = np.clip(np.floor(columns.min(1)), 0, width).astype(int)
    right = np.clip(np.ceil(columns.max(1)) + 1, 0, width).astype(int)
    top = np.clip(np.floor(rows.min(1)), 0, height).astype(int)
    bottom = np.clip(np.ceil(rows.max(1)) + 1, 0, height).astype(int)
    kept = drawn(corners, cull_backfaces) & (right > left) & (bottom > top)
    for face in np.flatnonzero(kept):
        box = slice(top[face], bottom[face]), slice(left[face], right[face])
        weights = weights_at(corners[face], x[box[1]][None, :], y[box[0]][:, None], False)
        inside = (weights > 0).all(-1)
        if not inside.any():
            continue
        if perspective_correct:
            weights = weights_at(corners[face], x[box[1]][None, :], y[box[0]][:, None], True)
        z = weights @ corners[face, :, 2]
        inside &= z >= 0
        # A strict comparison against sorted layers keeps the lower triangle first at equal depth.
        z = np.where(inside, z, np.inf)[..., None]
        both = np.concatenate([depth[box], z], -1)
        index = np.full((*z.shape[:2], 1), face)
        order = np.argsort(both, axis=-1, kind="stable")[..., :layers]
        both_found = np.concatenate([found[box], index], -1)
        depth[box] = np.take_along_axis(both, order, -1)
        found[box] = np.take_along_axis(both_found, order, -1)
    return np.where(np.isfinite(depth), found, -1)
