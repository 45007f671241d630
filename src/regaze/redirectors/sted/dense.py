"""The published encoder and decoder: densely connected, in the layout of their checkpoints.

Architecture and parameter names are those of zhengyuf/STED-gaze (``models/encoder.py``,
``models/decoder.py``, ``models/densenet.py``). Instance norm has neither parameters nor running
statistics, so training and evaluation compute the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.redirectors.sted.embeddings import Factors

_COMPOSITES = 4
"""Composite layers per dense block."""


def _normalised(values: Tensor) -> Tensor:
    return F.leaky_relu(F.instance_norm(values), 0.01)


class _Composite(nn.Module):
    """Instance norm, LeakyReLU 0.01, convolution without bias."""

    def __init__(self, convolution: nn.Module):
        super().__init__()
        self.conv = convolution

    def forward(self, values: Tensor) -> Tensor:
        return self.conv(_normalised(values))


class _Block(nn.Module):
    """Four composites, each of which sees the block's input and all that came before it."""

    def __init__(self, channels: int, growth: int, transposed: bool):
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        for number in range(1, _COMPOSITES + 1):
            layer = _Composite(kind(channels, growth, 3, 1, 1, bias=False))
            self.add_module(f"compo{number}", layer)
            channels += growth
        self.channels = channels

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.children():
            values = torch.cat([values, layer(values)], 1)
        return values


class _Down(nn.Module):
    """1x1 composite, then 2x2 averages."""

    def __init__(self, channels: int):
        super().__init__()
        self.composite = _Composite(nn.Conv2d(channels, channels, 1, bias=False))

    def forward(self, values: Tensor) -> Tensor:
        return F.avg_pool2d(self.composite(values), 2)


class _Initial(nn.Module):
    """Two strided convolutions from pixels to a quarter of the side."""

    def __init__(self, growth: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2 * growth, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(2 * growth, 4 * growth, 3, 2, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv2(_normalised(self.conv1(images)))


class _Last(nn.Module):
    """Two strided transposed convolutions to full size, and one to colours; no activation."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.conv1 = _up(channels, 4 * growth)
        self.conv2 = _up(4 * growth, 2 * growth)
        self.conv3 = nn.Conv2d(2 * growth, 3, 3, 1, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv3(_normalised(self.conv2(_normalised(self.conv1(values)))))


def _up(channels: int, width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, width, 3, 2, 1, output_padding=1, bias=False)


def start_convolutions(network: nn.Module) -> None:
    """Initial weights of all convolutions in a network."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)


class DenseBackbone(nn.Sequential):
    """Pictures (B,3,H,W) to (B, channels, H/64, W/64) with five blocks."""

    def __init__(self, growth: int, blocks: int):
        super().__init__()
        self.add_module("initial", _Initial(growth))
        channels = 4 * growth
        for number in range(1, blocks + 1):
            block = _Block(channels, growth, transposed=False)
            self.add_module(f"block{number}", block)
            channels = block.channels
            if number < blocks:
                self.add_module(f"trans{number}", _Down(channels))
        self.channels = channels


class DenseEncoder(nn.Module):
    """A picture's predicted angles and embeddings."""

    def __init__(self, factors: Factors, growth_rate: int, densenet_blocks: int = 5):
        super().__init__()
        self.encoder = DenseBackbone(growth_rate, densenet_blocks)
        width = self.encoder.channels * 4
        self.encoder_fc_pseudo_labels1 = nn.Linear(width, width // growth_rate)
        self.encoder_fc_pseudo_labels2 = nn.Linear(width // growth_rate, factors.angles)
        self.encoder_fc_embeddings1 = nn.Linear(width, width)
        self.encoder_fc_embeddings2 = nn.Linear(width, factors.size)
        start_convolutions(self)
        nn.init.zeros_(self.encoder_fc_pseudo_labels2.weight)
        nn.init.zeros_(self.encoder_fc_pseudo_labels2.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return angles (B, angles) within +-pi/2 and embeddings (B, size).

        ``images`` is (B,3,128,128) in [-1,1].
        """
        values = self.encoder(images).flatten(1)
        hidden = F.leaky_relu(self.encoder_fc_pseudo_labels1(values), 0.01)
        angles = (math.pi / 2) * torch.tanh(self.encoder_fc_pseudo_labels2(hidden).float())
        hidden = F.leaky_relu(self.encoder_fc_embeddings1(values), 0.01)
        return angles, self.encoder_fc_embeddings2(hidden)


class DenseDecoder(nn.Module):
    """Embeddings to a picture."""

    def __init__(self, factors: Factors, growth_rate: int, densenet_blocks: int = 5):
        super().__init__()
        channels = factors.size // 4
        self.fc_dec = None
        if 4 * channels != factors.size:
            self.fc_dec = nn.Linear(factors.size, 4 * channels)
        self.decoder = nn.Sequential()
        for number in range(1, densenet_blocks + 1):
            block = _Block(channels, growth_rate, transposed=True)
            self.decoder.add_module(f"block{number}", block)
            channels = block.channels
            if number < densenet_blocks:
                self.decoder.add_module(f"trans{number}", _Composite(_up(channels, channels)))
        self.decoder.add_module("last", _Last(channels, growth_rate))
        start_convolutions(self)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return pictures (B,3,128,128), not limited to [-1,1], of embeddings (B, size)."""
        if self.fc_dec is not None:
            embeddings = self.fc_dec(embeddings)
        return self.decoder(embeddings.unflatten(1, (-1, 2, 2)))
