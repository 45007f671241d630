"""Pictures whose pixels are taken from elsewhere in the source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def moved(picture: Tensor, flow: Tensor) -> Tensor:
    """Pictures (B, C, H, W) of which each pixel is taken ``flow`` (B, 2, H, W) pixels x, y away.

    Bilinear; beyond the rim its nearest pixel.
    """
    height, width = picture.shape[-2:]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    across = (2 * (x + flow[:, 0]) + 1) / width - 1
    down = (2 * (y + flow[:, 1]) + 1) / height - 1
    grid = torch.stack([across, down], -1)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def slopes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours across and down, (B, C, H, W - 1) and (B, C, H - 1, W)."""
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def window(height: int, width: int, rim: int) -> Tensor:
    """Weights (1, 1, height, width): 1, falling softly to 0 over ``rim`` pixels at the edges."""
    down, across = (
        ((torch.minimum(torch.arange(n), torch.arange(n).flip(0)) + 0.5) / rim).clamp(max=1)
        for n in (height, width)
    )
    weights = down[:, None] * across
    return (weights * weights * (3 - 2 * weights))[None, None]
