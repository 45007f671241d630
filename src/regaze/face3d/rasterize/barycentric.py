"""Weights, depths and edge distances of known hits, recomputed in torch so that gradients flow.

Which triangle a pixel sees is not differentiable; where in it the pixel's centre lies is. Every
backend that hands over triangle numbers gets its other outputs here, in float64 inside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regaze.face3d.rasterize.grid import EPSILON, pixel_centres


def edge(point: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Twice the signed area (N,) of triangles of points (N, 2 or more), in the x, y plane."""
    (px, py), (ax, ay), (bx, by) = (corner[:, :2].unbind(1) for corner in (point, start, end))
    return (px - ax) * (by - ay) - (py - ay) * (bx - ax)


def interpolate(
    verts: Tensor,
    faces: Tensor,
    pix_to_face: Tensor,
    perspective_correct: bool,
    with_dists: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Outputs of the hits of every pixel.

    Args:
        verts: (B, V, 3) NDC, any floating dtype; the outputs have it too.
        faces: (B, F, 3) int64.
        pix_to_face: (B, H, W, K) packed triangle numbers, -1 where empty, on ``verts``' device.
        with_dists: whether squared edge distances are wanted.

    Returns:
        zbuf (B, H, W, K), bary (B, H, W, K, 3) and dists (B, H, W, K) or None; -1 where empty.
    """
    batch, n_verts = verts.shape[:2]
    height, width = pix_to_face.shape[1:3]
    first = torch.arange(batch, device=verts.device)[:, None, None] * n_verts
    packed = (faces + first).reshape(-1, 3)
    mesh, row, column, layer = (pix_to_face >= 0).nonzero(as_tuple=True)
    hit = pix_to_face[mesh, row, column, layer]
    corners = verts.reshape(-1, 3).double()[packed[hit]]
    x, y = (torch.from_numpy(axis.copy()).to(verts.device) for axis in pixel_centres(height, width))
    point, (a, b, c) = torch.stack([x[column], y[row]], -1), corners[..., :2].unbind(1)
    az, bz, cz = corners[..., 2].unbind(1)
    area = edge(c, a, b) + EPSILON
    w0, w1, w2 = (edge(point, *side) / area for side in ((b, c), (c, a), (a, b)))
    if perspective_correct:
        w0, w1, w2 = w0 * bz * cz, w1 * cz * az, w2 * az * bz
        total = (w0 + w1 + w2).clamp_min(EPSILON)
        w0, w1, w2 = w0 / total, w1 / total, w2 / total
    weights = torch.stack([w0, w1, w2], -1)
    z = w0 * az + w1 * bz + w2 * cz
    where = (mesh, row, column, layer)
    bary = _spread(weights, where, (*pix_to_face.shape, 3), verts)
    zbuf = _spread(z, where, pix_to_face.shape, verts)
    if not with_dists:
        return zbuf, bary, None
    edges = [_to_segment(point, *side) for side in ((a, b), (a, c), (b, c))]
    nearest = torch.stack(edges, -1).amin(-1)
    return zbuf, bary, _spread(-nearest, where, pix_to_face.shape, verts)


def _spread(values: Tensor, where, shape, like: Tensor) -> Tensor:
    """Put the values of the hits into a tensor of -1."""
    return like.new_full(shape, -1.0).index_put(where, values.to(like.dtype))


def _to_segment(point: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Squared distance (N,) of points (N, 2) from the segments between two points."""
    along = end - start
    squared = (along * along).sum(-1)
    share = ((point - start) * along).sum(-1) / squared.clamp_min(EPSILON)
    share = torch.where(squared > EPSILON, share.clamp(0.0, 1.0), torch.ones_like(share))
    return ((point - start - share[:, None] * along) ** 2).sum(-1)
