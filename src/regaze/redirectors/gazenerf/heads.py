"""Codes of heads, what is saved of a model, and what is learnt of training pictures besides."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regaze.codes import CODES, code_columns
from regaze.redirectors.gazenerf.field import HeadField
from regaze.redirectors.gazenerf.objective import Offsets
from regaze.redirectors.gazenerf.settings import CODE_PARTS

_CAMERA = 6
SLOW = 0.1
"""Share of the learning rate with which expressions and cameras of training pictures move."""


def sizes_of(network: Mapping) -> tuple[int, ...]:
    """Numbers of the parts of a code, in the order of :data:`CODE_PARTS`."""
    return tuple(network[part] for part in CODE_PARTS)


class Head(nn.Module):
    """A field, and how codes of the encoder are spread in the training data.

    Codes are told to the field about 0, which stands for a head that is not known, each part in
    units of its spread: what an encoder hardly tells apart stays as small beside the rest of its
    part as it was. Without an encoder all are 0.

    Args:
        field: the field.
        sizes: numbers of the parts of codes.
        encoded: whether an encoder tells codes.
        spread: mean deviation of the numbers of a part, as they are told.
    """

    def __init__(self, field: HeadField, sizes: tuple[int, ...], encoded: bool, spread: float):
        super().__init__()
        self.field, self.sizes, self.spread = field, sizes, spread
        count = sum(sizes)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.order: list[int] = []
        if encoded:
            columns = code_columns(part for part in CODES if part in CODE_PARTS)
            numbers = range(count)
            self.order = [number for part in CODE_PARTS for number in numbers[columns[part]]]

    def standardise(self, codes: Tensor) -> None:
        """Learn the spread of training codes (N,D) as they are stored."""
        codes = codes[:, self.order].double()
        spread = codes.std(0, correction=0)
        self.mean.copy_(codes.mean(0))
        for own, told in zip(spread.split(self.sizes), self.std.split(self.sizes), strict=True):
            of_part = own.square().mean().sqrt()
            told.copy_(of_part / self.spread if of_part > 0 else torch.ones_like(of_part))

    def codes(self, stored: Tensor, known: Tensor) -> Tensor:
        """Codes (B,D) in the field's order and spread, of stored ones; 0 where they are unknown."""
        found = (stored[:, self.order].float() - self.mean) / self.std
        return torch.where(known[:, None], found, torch.zeros_like(found))


class Learnt(nn.Module):
    """Offsets of codes and cameras of every training picture, looked up by row.

    Expressions and cameras move with a tenth of the learning rate, as published: they are a tenth
    of the numbers that are trained, which to Adam is the same.
    """

    def __init__(self, rows: int, sizes: tuple[int, ...]):
        super().__init__()
        self.sizes = sizes
        self.heads = nn.Embedding(rows, sum(sizes))
        self.cameras = nn.Embedding(rows, _CAMERA)
        for table in (self.heads, self.cameras):
            nn.init.zeros_(table.weight)

    def forward(self, heads: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets of codes (B,D) of rows ``heads``, and of cameras (B,6) of rows ``cameras``."""
        codes = list(self.heads(heads).split(self.sizes, 1))
        codes[1] = SLOW * codes[1]
        return torch.cat(codes, 1), SLOW * self.cameras(cameras)


def offsets_of(codes: Tensor, camera: Tensor, sizes: tuple[int, ...]) -> Offsets:
    """Offsets of codes (B,D) and cameras (B,6) by name."""
    identity, expression, *colours = codes.split(sizes, 1)
    turn, shift = camera.split(3, 1)
    return Offsets(turn, shift[..., None], identity, expression, torch.cat(colours, 1))
