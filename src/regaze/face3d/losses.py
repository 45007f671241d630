"""DECA's losses on landmarks (Feng et al. 2021; formulas of ``yfeng95/DECA`` lossfunc.py).

Landmarks are (B, 68, 2) in image space, iBUG order from 0; a third column of the true ones is
their visibility, 1 when there is none.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EYELIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
_LIPS = ((61, 67), (62, 66), (63, 65))


def landmark_weights() -> Tensor:
    """Return DECA's weight of each landmark, (68,): contour ends, nose and mouth count more."""
    weights = torch.ones(68)
    weights[[5, 6, 10, 11]] = 2.0
    weights[27:36] = 1.5
    weights[[30, 31, 35]] = 3.0
    weights[48:68] = 1.5
    weights[[48, 54]] = 3.0
    return weights


def landmark_loss(found: Tensor, true: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean absolute distance, weighted by landmark and visibility.

    Args:
        found: (B, 68, 2).
        true: (B, 68, 2) or (B, 68, 3) with visibility.
        weights: (68,); None counts all alike.
    """
    visible = true[..., 2] if true.shape[-1] > 2 else torch.ones_like(true[..., 0])
    if weights is not None:
        visible = visible * weights.to(visible)
    apart = (found[..., :2] - true[..., :2]).abs().sum(-1)
    return (visible * apart).sum() / (2.0 * visible.sum() + 1e-8)


def eye_distance_loss(found: Tensor, true: Tensor) -> Tensor:
    """Return how far the openings of the eyes differ, mean over lid pairs."""
    return _opening_loss(found, true, _EYELIDS)


def lip_distance_loss(found: Tensor, true: Tensor) -> Tensor:
    """Return how far the opening of the mouth differs, mean over lip pairs."""
    return _opening_loss(found, true, _LIPS)


def _opening_loss(found: Tensor, true: Tensor, pairs) -> Tensor:
    upper, lower = (list(column) for column in zip(*pairs, strict=True))

    def openings(points: Tensor) -> Tensor:
        return (points[:, upper, :2] - points[:, lower, :2]).pow(2).sum(2).sqrt()

    return (openings(found) - openings(true)).abs().mean()
