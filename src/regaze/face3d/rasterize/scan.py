"""All triangles at once: every pixel in every triangle's bounding box is tested, in torch.

Made for meshes of many small triangles, such as heads: the boxes then hold about twice the pixels
that the mesh covers, and the whole batch is a few dozen vector operations. Runs on CPU and CUDA,
in float64, with the contract's own arithmetic: edges, ties and slivers are those of the
reference. One layer per pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regaze.face3d.rasterize.barycentric import edge
from regaze.face3d.rasterize.grid import EPSILON, column_of, half_extent, pixel_centres

CANDIDATES = {"cpu": 500_000, "cuda": 4_000_000}
"""Most pixels tested at a time; about 200 bytes of memory each."""

_SLACK = 1e-3
_DOUBTFUL = 1e-9


def hits(
    verts: Tensor,
    faces: Tensor,
    height: int,
    width: int,
    perspective_correct: bool = False,
    cull_backfaces: bool = False,
) -> Tensor:
    """Nearest triangle of every pixel: packed numbers (B, H, W, 1) int64, -1 where there is none.

    Args:
        verts: (B, V, 3) NDC.
        faces: (B, F, 3) int64 on the same device.
    """
    batch, count = verts.shape[:2]
    device = verts.device
    first = count * torch.arange(batch, device=device)[:, None, None]
    packed = (faces + first).reshape(-1, 3)
    points = verts.reshape(-1, 3).double()
    rx, ry = half_extent(height, width)
    left, right = _between(column_of(points[:, 0], rx, width), packed, width)
    top, bottom = _between(column_of(points[:, 1], ry, height), packed, height)
    ids = ((right >= left) & (bottom >= top)).nonzero().flatten()
    a, b, c = points[packed[ids]].unbind(1)
    area = edge(c, a, b)
    near = torch.minimum(torch.minimum(a[:, 2], b[:, 2]), c[:, 2])
    kept = (near >= EPSILON) & (area.abs() > EPSILON)
    if cull_backfaces:
        kept &= area >= 0
    kept = kept.nonzero().flatten()
    ids, corners = ids[kept], (a[kept], b[kept], c[kept])
    x, y = (torch.from_numpy(axis.copy()).to(device) for axis in pixel_centres(height, width))
    boxes = left[ids], right[ids], top[ids], bottom[ids]
    sizes = (boxes[1] - boxes[0] + 1) * (boxes[3] - boxes[2] + 1)
    depth = torch.full((batch * height * width,), torch.inf, dtype=torch.float64, device=device)
    best = torch.full_like(depth, -1, dtype=torch.int64)
    n_faces = faces.shape[1]
    for part in _parts(sizes, CANDIDATES["cpu" if device.type == "cpu" else "cuda"]):
        these = (tuple(table[part] for table in tables) for tables in (corners, boxes))
        inside = _inside(*these, sizes[part], (x, y), perspective_correct)
        if inside is None:
            continue
        face, row, column, z = inside
        number = ids[part][face]
        pixel = (number // n_faces * height + row) * width + column
        # A later part has higher numbers: at equal depth it does not replace an earlier one.
        nearer = z < depth[pixel]
        depth.scatter_reduce_(0, pixel, z, "amin")
        winners = (nearer & (z == depth[pixel])).nonzero().flatten()
        pixel, number = pixel[winners], number[winners]
        best[pixel] = torch.iinfo(torch.int64).max
        best.scatter_reduce_(0, pixel, number, "amin")
    return best.view(batch, height, width, 1)


def _between(coordinates: Tensor, corners: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """First and last pixel number between three vertices; last < first where there is none."""
    a, b, c = coordinates[corners].unbind(1)
    low = torch.minimum(torch.minimum(a, b), c) - _SLACK
    high = torch.maximum(torch.maximum(a, b), c) + _SLACK
    return low.ceil().clamp(0, count).long(), high.floor().clamp(-1, count - 1).long()


def _parts(sizes: Tensor, most: int):
    """Slices of the triangles with at most ``most`` pixels, or one triangle, each."""
    ends = sizes.cumsum(0)
    start, count = 0, len(sizes)
    while start < count:
        done = int(ends[start - 1]) if start else 0
        stop = max(int(torch.searchsorted(ends, done + most, right=True)), start + 1)
        yield slice(start, stop)
        start = stop


def _inside(corners, boxes, sizes: Tensor, centres, perspective_correct: bool):
    """Triangle, row, column and depth of the pixels inside of triangles, or None."""
    a, b, c = corners
    left, right, top, _ = boxes
    x, y = centres
    wide = right - left + 1
    face = torch.repeat_interleave(sizes)
    step = torch.arange(len(face), device=face.device) - (sizes.cumsum(0) - sizes)[face]
    row = torch.div(step, wide[face], rounding_mode="floor")
    column = step - row * wide[face] + left[face]
    row = row + top[face]
    px, py = x[column], y[row]
    area = edge(c, a, b) + EPSILON
    weights = []
    for start, end in ((b, c), (c, a), (a, b)):
        # e(p) / area = p.x * u - p.y * v - w
        u, v = (end[:, 1] - start[:, 1]) / area, (end[:, 0] - start[:, 0]) / area
        w = start[:, 0] * u - start[:, 1] * v
        weights.append(px * u[face] - py * v[face] - w[face])
    lowest = torch.minimum(torch.minimum(weights[0], weights[1]), weights[2])
    found = (lowest > -_DOUBTFUL).nonzero().flatten()
    if not len(found):
        return None
    face, row, column = face[found], row[found], column[found]
    weights = [weight[found] for weight in weights]
    doubtful = (lowest[found] < _DOUBTFUL).nonzero().flatten()
    if len(doubtful):
        # On an edge rounding decides, and the contract's own formula has to round.
        at, point = face[doubtful], (x[column[doubtful]], y[row[doubtful]])
        for weight, (start, end) in zip(weights, ((b, c), (c, a), (a, b)), strict=True):
            weight[doubtful] = edge(torch.stack(point, -1), start[at], end[at]) / area[at]
    sure = torch.minimum(torch.minimum(weights[0], weights[1]), weights[2]) > 0
    za, zb, zc = a[:, 2][face], b[:, 2][face], c[:, 2][face]
    if perspective_correct:
        weights = [weights[0] * zb * zc, weights[1] * zc * za, weights[2] * za * zb]
        total = (weights[0] + weights[1] + weights[2]).clamp_min(EPSILON)
        weights = [weight / total for weight in weights]
    z = weights[0] * za + weights[1] * zb + weights[2] * zc
    sure = (sure & (z >= 0)).nonzero().flatten()
    return face[sure], row[sure], column[sure], z[sure]
