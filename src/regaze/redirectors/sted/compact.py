"""An encoder and a decoder for CPU minutes: ST-ED's factors, another way there and back.

The appearance factor is a map of an eighth of the picture's side in place of a vector, so that a
face need not pass through a narrow vector whose use takes long to learn. The encoder predicts
embeddings in canonical form and turns them by its own angles: the same relation that the published
networks approach through a loss holds from the start.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.redirectors.sted.embeddings import Factors
from regaze.redirectors.xunet.kernels import double, group_norm, halve

_REDUCTION = 8
"""Side of the picture over side of the appearance map."""


def appearance_channels(factors: Factors, size_px: int) -> int:
    """Channels of the appearance map at a picture's side."""
    cells = (size_px // _REDUCTION) ** 2
    sizes = [columns for dof, columns in factors.shapes if dof == 0]
    return sizes[0] // cells


class _GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm``, on a CPU by the faster way."""

    def forward(self, values: Tensor) -> Tensor:
        return group_norm(values, self.num_groups, self.weight, self.bias, self.eps)


class _Block(nn.Module):
    """Two 3x3 convolutions around group norm, modulated by a vector if there is one."""

    def __init__(self, channels: int, width: int, told: int = 0):
        super().__init__()
        self.norm1 = _GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.norm2 = _GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()
        self.film = nn.Linear(told, 2 * width) if told else None
        nn.init.zeros_(self.conv2.weight)

    def forward(self, values: Tensor, told: Tensor | None = None) -> Tensor:
        inner = self.norm2(self.conv1(F.silu(self.norm1(values))))
        if self.film is not None:
            scale, shift = self.film(told)[:, :, None, None].chunk(2, 1)
            inner = inner * (1 + scale) + shift
        return self.shortcut(values) + self.conv2(F.silu(inner))


class CompactTrunk(nn.Module):
    """A picture's appearance map, and a vector of what is where."""

    def __init__(self, channels: int, width: int, hidden: int):
        super().__init__()
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            [_Block(width, width), _Block(width, 2 * width), _Block(2 * width, 3 * width)]
        )
        self.appearance = nn.Conv2d(3 * width, channels, 1)
        self.fc = nn.Linear(3 * width * 16, hidden)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the flat map (B, channels (S/8)^2) and the vector (B, hidden) of (B,3,S,S)."""
        values = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        values = self.stem(values)
        for number, block in enumerate(self.blocks):
            values = block(halve(values) if number else values)
        values = F.silu(values)
        appearance = self.appearance(values).flatten(1)
        # Read by position: where the iris sits is the answer.
        return appearance, F.silu(self.fc(F.adaptive_avg_pool2d(values, (4, 4)).flatten(1)))


class CompactEncoder(CompactTrunk):
    """A picture's predicted angles and embeddings."""

    def __init__(self, factors: Factors, size_px: int, width: int, hidden: int):
        super().__init__(appearance_channels(factors, size_px), width, hidden)
        self.factors = factors
        self.fc_angles = nn.Linear(hidden, factors.angles)
        self.fc_embeddings = nn.Linear(hidden, factors.size - factors.shapes[0][1])
        nn.init.normal_(self.fc_angles.weight, std=0.01)
        nn.init.zeros_(self.fc_angles.bias)
        # Nearly the same for all faces at first: what the decoder then reads are the turns alone,
        # and not what an untrained encoder makes of a face.
        nn.init.normal_(self.fc_embeddings.weight, std=0.01)
        nn.init.normal_(self.fc_embeddings.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return angles (B, angles) within +-pi/2 and embeddings (B, size).

        ``images`` is (B,3,S,S) in [-1,1].
        """
        appearance, hidden = self.read(images)
        angles = (math.pi / 2) * torch.tanh(self.fc_angles(hidden).float())
        canonical = torch.cat([appearance, self.fc_embeddings(hidden)], 1)
        return angles, self.factors.rotate(canonical, angles)


class CompactDecoder(nn.Module):
    """Embeddings to a picture: the turned ones modulate how the appearance map is drawn."""

    def __init__(self, factors: Factors, size_px: int, width: int, hidden: int):
        super().__init__()
        self.channels, self.cells = appearance_channels(factors, size_px), size_px // _REDUCTION
        self.split = factors.shapes[0][1]
        told = factors.size - self.split
        self.tell = nn.Sequential(nn.Linear(told, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        # What the turned embeddings say may differ from place to place.
        self.place = nn.Linear(hidden, self.channels * self.cells**2)
        self.stem = nn.Conv2d(2 * self.channels, 3 * width, 3, padding=1)
        self.blocks = nn.ModuleList(
            [
                _Block(3 * width, 3 * width, hidden),
                _Block(3 * width, 3 * width, hidden),
                _Block(3 * width, 2 * width, hidden),
                _Block(2 * width, 2 * width, hidden),
                _Block(2 * width, width, hidden),
                _Block(width, width, hidden),
            ]
        )
        self.last = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return pictures (B,3,S,S), not limited to [-1,1], of embeddings (B, size)."""
        shape = (self.channels, self.cells, self.cells)
        appearance, turned = embeddings[:, : self.split], embeddings[:, self.split :]
        told = F.silu(self.tell(turned))
        values = torch.cat(
            [appearance.unflatten(1, shape), self.place(told).unflatten(1, shape).float()], 1
        )
        values = self.stem(values.contiguous(memory_format=torch.channels_last))
        for number, block in enumerate(self.blocks):
            if number in (2, 4):
                values = double(values)
            values = block(values, told)
        return F.pixel_shuffle(self.last(F.silu(values)), 2)
