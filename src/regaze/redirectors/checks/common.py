"""What checks are made of: how things are compared, and what is said of them."""

from __future__ import annotations

import torch
from torch import Tensor

from regaze.redirectors.base import (
    Batch,
    Redirector,
)
from regaze.redirectors.bench import Failed
from regaze.training.phases import Progress

CLOSE = 2e-3
"""Of pictures in [-1, 1]: more than rounding makes of another batch, less than a grey level."""


class NotApplicable(Exception):
    """A check asks for something that the method does not claim to do; the message says what."""


def expect(fact: bool, told: str) -> None:
    if not fact:
        raise Failed(told)


def finite(found: Tensor) -> None:
    expect(bool(found.isfinite().all()), "expected numbers, found NaN or infinity")


def same(found: Tensor, wanted: Tensor, told: str, within: float = CLOSE) -> None:
    expect(found.shape == wanted.shape, f"{told}: {tuple(found.shape)} and {tuple(wanted.shape)}")
    off = float((found.float() - wanted.float()).abs().max())
    expect(off <= within, f"{told}: they differ by up to {off:.3g}, expected at most {within:g}")


def rows_of(batch: Batch, rows) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in batch.items()}


def pictures_of(redirector: Redirector, batch: Batch, **options) -> Tensor:
    with torch.no_grad():
        return redirector.redirect(batch, seed=0, **options)


def loss_of(redirector: Redirector, batch: Batch, phase) -> Tensor:
    at = Progress(1, phase.after, torch.Generator().manual_seed(0))
    return redirector.losses(batch, phase.name, at)["loss"]
