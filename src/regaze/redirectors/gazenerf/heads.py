"""Codes of heads, what is saved of a model, and what is learnt of training pictures besides."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regaze.codes import CODES, code_columns
from regaze.codes.condition import code_statistics
from regaze.redirectors.gazenerf.field import HeadField
from regaze.redirectors.gazenerf.objective import Offsets
from regaze.redirectors.gazenerf.settings import CODE_PARTS

_CAMERA = 6
_SLOW = 0.1
"""Share of the learning rate with which expressions and cameras of training pictures move."""


def sizes_of(network: Mapping) -> tuple[int, ...]:
    """Numbers of the parts of a code, in the order of :data:`CODE_PARTS`."""
    return tuple(network[part] for part in CODE_PARTS)


class Head(nn.Module):
    """A field, and how codes of the encoder are spread in the training data.

    Codes are told to the field as numbers of deviation 1 about 0, which stands for a head that is
    not known. Without an encoder all are 0.
    """

    def __init__(self, field: HeadField, count: int, encoded: bool):
        super().__init__()
        self.field = field
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.order: list[int] = []
        if encoded:
            columns = code_columns(part for part in CODES if part in CODE_PARTS)
            numbers = range(count)
            self.order = [number for part in CODE_PARTS for number in numbers[columns[part]]]

    def standardise(self, codes: Tensor) -> None:
        """Learn the spread of training codes (N,D) as they are stored."""
        mean, std = code_statistics(codes[:, self.order])
        self.mean.copy_(mean)
        self.std.copy_(std)

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
        codes[1] = _SLOW * codes[1]
        return torch.cat(codes, 1), _SLOW * self.cameras(cameras)


def offsets_of(codes: Tensor, camera: Tensor, sizes: tuple[int, ...]) -> Offsets:
    """Offsets of codes (B,D) and cameras (B,6) by name."""
    identity, expression, *colours = codes.split(sizes, 1)
    turn, shift = camera.split(3, 1)
    return Offsets(turn, shift[..., None], identity, expression, torch.cat(colours, 1))
