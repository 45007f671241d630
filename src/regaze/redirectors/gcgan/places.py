"""Eye regions cut out of patches, and drawn ones pasted back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.images import eye_boxes
from regaze.masks.painting import band, shown_part

_REACH, _DOWN = 2.3, 0.225
"""Side of a region in distances between the eyes, and its middle below them in sides."""
_FEATHER = 5
"""Pixels of a drawn region over which its edge fades."""


def usual_place(like: Tensor, strip: bool = True) -> Tensor:
    """(4,) where the strip lies in a normalised patch whose landmarks are not known.

    Without ``strip`` the rows alone in which it shows anything.
    """
    boxes = torch.tensor(eye_boxes(1024), dtype=torch.float64) / 1024
    eyes = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = _REACH * (eyes[1, 0] - eyes[0, 0]).abs()
    across, down = eyes.mean(0)
    top = down + (_DOWN - 0.5 - 62 / 250) * side
    box = torch.stack([across - side / 2, top, across + side / 2, top + side])
    return (box if strip else torch.from_numpy(shown_part(box.numpy()))).to(like)


def shown(side: int, strip: bool, like: Tensor) -> Tensor:
    """(1,1,side,1) of 1 in the rows of a picture that show something, 0 where it is black."""
    rows = like.new_zeros(1, 1, side, 1)
    first, last = band(side) if strip else (0, side)
    rows[:, :, first:last] = 1
    return rows


def cut(images: Tensor, place: Tensor, side: int, strip: bool, *, labels: bool = False) -> Tensor:
    """Regions (B,C,side,side) of pictures (B,C,H,W).

    Args:
        images: in [-1,1], or of class numbers.
        place: (B,4) left, top, right, bottom as shares of the sides; they may reach beyond, where
            it is black.
        side: of the regions.
        strip: whether only the middle rows show anything.
        labels: of the nearest pixels, 0 beyond; otherwise interpolated, -1 beyond.
    """
    lift = 0.0 if labels else 1.0
    left, top, right, bottom = place.unbind(1)
    zero = torch.zeros_like(left)
    across = torch.stack([right - left, zero, left + right - 1], 1)
    down = torch.stack([zero, bottom - top, top + bottom - 1], 1)
    size = (len(images), images.shape[1], side, side)
    grid = F.affine_grid(torch.stack([across, down], 1), size, align_corners=False)
    mode = "nearest" if labels else "bilinear"
    found = F.grid_sample(images + lift, grid.to(images), mode, "zeros", align_corners=False)
    return found * shown(side, strip, found) - lift


def pasted(source: Tensor, drawn: Tensor, weight: Tensor, place: Tensor) -> Tensor:
    """Pictures (B,3,H,W) with drawn regions put in their places.

    Args:
        source: (B,3,H,W).
        drawn: (B,3,S,S).
        weight: (B,1,S,S) how much of the region covers the source.
        place: (B,4), see :func:`cut`.
    """
    left, top, right, bottom = place.unbind(1)
    wide, tall, zero = right - left, bottom - top, torch.zeros_like(left)
    across = torch.stack([1 / wide, zero, (1 - left - right) / wide], 1)
    down = torch.stack([zero, 1 / tall, (1 - top - bottom) / tall], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(source.shape), align_corners=False)
    both = torch.cat([drawn, torch.ones_like(weight)], 1) * weight
    both = F.grid_sample(both, grid.to(both), align_corners=False)
    # Colours come weighted, so that nothing from beyond the region bleeds into its edge.
    return source * (1 - both[:, 3:]) + both[:, :3]


def feathered(seg: Tensor, strip: bool) -> Tensor:
    """Weights (B,1,S,S) of regions: their face, as scores (B,K,S,S) say, fading at its edge."""
    side = seg.shape[-1]
    face = (seg.argmax(1, keepdim=True) > 0).to(seg)
    window = shown(side, strip, seg).expand(-1, -1, -1, side).clone()
    window[..., [0, -1]] = 0
    whole = face * window
    reach = _FEATHER // 2
    least = -F.max_pool2d(-F.pad(whole, (reach,) * 4), _FEATHER, 1)
    return F.avg_pool2d(F.pad(least, (reach,) * 4), _FEATHER, 1)
