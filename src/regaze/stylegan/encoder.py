"""e4e: an encoder of faces into W+ codes, as offsets from a generator's average code.

The layout is that of omertov/encoder4editing (``models/encoders/psp_encoders.py``); its trunk is
the identity network's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.identity.irse import irse_trunk
from regaze.stylegan.generator import style_count
from regaze.stylegan.ops import EqualLinear

SIZE_PX = 256
"""Side of the pictures that the published weights read."""
_TAPS = (6, 20, 23)
_COARSE, _MIDDLE = 3, 7


class Style(nn.Module):
    """A map (B,C,side,side) to a row of a code (B,C)."""

    def __init__(self, side: int, channels: int = 512):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(side))):
            layers += [nn.Conv2d(channels, channels, 3, 2, 1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(channels, channels)

    def forward(self, values: Tensor) -> Tensor:
        """Return (B,channels) of (B,channels,side,side)."""
        return self.linear(self.convs(values).flatten(1))


class Encoder4Editing(nn.Module):
    """Faces to offsets of a W+ code: a style for all rows, and what each row differs from it.

    Args:
        size: side of the generator's pictures.
        num_layers, squeeze: of the trunk, see :func:`regaze.identity.irse.irse_trunk`.
    """

    def __init__(self, size: int = 1024, num_layers: int = 50, squeeze: bool = True):
        super().__init__()
        self.style_count = style_count(size)
        self.input_layer, self.body = irse_trunk(num_layers, squeeze)
        self.styles = nn.ModuleList(
            Style(16 if row < _COARSE else 32 if row < _MIDDLE else 64)
            for row in range(self.style_count)
        )
        self.latlayer1 = nn.Conv2d(256, 512, 1)
        self.latlayer2 = nn.Conv2d(128, 512, 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """The trunk's maps (B,128,64,64), (B,256,32,32), (B,512,16,16) of (B,3,256,256)."""
        values, found = self.input_layer(images), []
        for number, unit in enumerate(self.body):
            values = unit(values)
            if number in _TAPS:
                found.append(values)
        return found

    def forward(self, images: Tensor, stage: int | None = None) -> Tensor:
        """Return offsets (B, style_count, 512) of FFHQ-aligned faces (B,3,256,256) in [-1,1].

        ``stage``: the last row that may differ from the first; None lets all of them.
        """
        fine, middle, coarse = self.features(images)
        middle = _enlarged(coarse, self.latlayer1(middle))
        maps = {0: coarse, _COARSE: middle, _MIDDLE: _enlarged(middle, self.latlayer2(fine))}
        shared, rows = self.styles[0](coarse), []
        last = self.style_count - 1 if stage is None else stage
        for row, style in enumerate(self.styles):
            values = maps[max(first for first in maps if first <= row)]
            rows.append(shared + style(values) if 0 < row <= last else shared)
        return torch.stack(rows, 1)


def _enlarged(values: Tensor, lateral: Tensor) -> Tensor:
    size = lateral.shape[-2:]
    return F.interpolate(values, size, mode="bilinear", align_corners=True) + lateral
