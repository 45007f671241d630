"""The descent that finds the code of a picture, its gaze as it is.

The schedule of the learning rate is that of StyleGAN2's projector (Karras et al. 2020), as in
``naranjuelo/GC-GAN``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MEAN_OF = 10_000
"""Drawn noise vectors whose mean code a descent begins at and stays near to."""
_UP, _DOWN = 0.05, 0.25
"""Shares of the steps in which the rate rises and falls."""


@dataclass(frozen=True)
class Fit:
    """How a code is found.

    Attributes:
        steps: of Adam.
        rate: its largest learning rate.
        pixels: weight of the squared difference.
        near: weight of the squared distance to the mean code.
    """

    steps: int
    rate: float
    pixels: float
    near: float


def rate_at(done: float) -> float:
    """Share of the largest rate after a share of the steps."""
    fall = min(1.0, (1 - done) / _DOWN)
    return (0.5 - 0.5 * math.cos(math.pi * fall)) * min(1.0, done / _UP)


def fitted(
    drawn: Callable[[Tensor], Tensor],
    start: Tensor,
    images: Tensor,
    mean: Tensor,
    window: Tensor,
    options: Fit,
    likeness: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Codes (B,rows,D) that draw pictures, each found as if it were alone.

    Args:
        drawn: codes to pictures (B,3,S,S).
        start: codes to begin at.
        images: (B,3,S,S).
        mean: (D,) the mean code.
        window: (1,1,S,1) rows that are compared.
        options: how.
        likeness: LPIPS (B,) of two batches of pictures, if there is one.
    """
    codes = start.detach().clone()
    if not options.steps:
        return codes
    with torch.enable_grad():
        codes.requires_grad_()
        optimiser = torch.optim.Adam([codes], options.rate)
        for number in range(options.steps):
            optimiser.param_groups[0]["lr"] = options.rate * rate_at(number / options.steps)
            made = drawn(codes)
            apart = ((made - images) * window).square().mean((1, 2, 3)) / window.mean()
            loss = options.pixels * apart + options.near * (codes - mean).square().mean((1, 2))
            if likeness is not None:
                loss = loss + likeness(made * window, images * window).reshape(-1)
            # Of codes alone, and a sum, so that each is found as if it were alone.
            (codes.grad,) = torch.autograd.grad(loss.sum(), codes)
            optimiser.step()
    return codes.detach()
