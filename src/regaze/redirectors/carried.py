"""Sources carried along by their 3-D faces: what pictures begin at where budgets are small.

Every pixel of an edited rendering sees a place of the mesh, and the unedited mesh says where that
place is in the source. Heads turn, mouths open and eyeballs roll so without anything being learnt;
around the mesh the displacement runs on and fades. The colour is then that of the edited light:
what blurred renderings differ by, as a factor (a quotient image; Shashua and Riklin-Raviv 2001).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_DARK = 0.05
"""Added to renderings before they are divided: what is black says nothing of the light."""
_MOST = 4.0
"""Largest factor of light."""


def displacement(places: Tensor, seen: Tensor) -> Tensor:
    """How far pixels are from where they are taken, (B, 2, H, W) in [-1, 1] of a side.

    Args:
        places: (B, 2, H, W) where in the source the mesh that a pixel sees is.
        seen: (B, 1, H, W), 1 where a pixel sees the mesh. Around it the mean displacement of what
            is near goes on, and is none farther off than an eighth of the side or so.
    """
    own = pixel_centres(places)
    moved = (places - own) * seen
    wide = 2 * (seen.shape[-1] // 8) + 1
    share = _blurred(seen, wide)
    around = _blurred(moved, wide) / share.clamp_min(1e-6)
    return torch.where(seen > 0, moved, around * (2 * share).clamp(max=1))


def pixel_centres(like: Tensor) -> Tensor:
    """Centres (1, 2, H, W) of pixels in [-1, 1], x then y."""
    height, width = like.shape[-2:]
    y = (2 * torch.arange(height, device=like.device) + 1) / height - 1
    x = (2 * torch.arange(width, device=like.device) + 1) / width - 1
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows])[None].to(like)


def moved(pictures: Tensor, by: Tensor) -> Tensor:
    """Pictures (B, C, H, W) read where displacements (B, 2, H, W) say; edges go on."""
    grid = (pixel_centres(by) + by).permute(0, 2, 3, 1)
    return F.grid_sample(
        pictures, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def carried(sources: Tensor, before: Tensor, after: Tensor, by: Tensor) -> Tensor:
    """Sources (B, 3, H, W) in [-1, 1] along displacements, in another light.

    Args:
        before, after: (B, 3, H, W) shaded renderings, zero off the mesh: of the source, and of what
            it becomes.
        by: (B, 2, H, W) of :func:`displacement`.
    """
    made, before = moved(torch.cat([sources, before], 1), by).split(3, 1)
    wide = 2 * (sources.shape[-1] // 16) + 1
    light = [_blurred(one.clamp_min(0), wide) + _DARK for one in (after, before)]
    factor = (light[0] / light[1]).clamp(1 / _MOST, _MOST)
    return ((made + 1) * factor - 1).clamp(-1, 1)


def _blurred(values: Tensor, side: int) -> Tensor:
    """Means over squares, twice; rows and columns one after the other, which is quicker."""
    for kernel in 2 * ((side, 1), (1, side)):
        padding = tuple(one // 2 for one in kernel)
        values = F.avg_pool2d(values, kernel, 1, padding, count_include_pad=False)
    return values
