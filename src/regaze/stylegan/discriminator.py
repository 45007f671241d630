"""Discriminators of pictures and of W codes, and what they and their opponents learn from."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.stylegan.generator import channels_at, style_count
from regaze.stylegan.ops import EqualConv2d, EqualLinear, FusedLeakyReLU, blur_before


def layer(inputs: int, outputs: int, size: int, *, down: bool = False, plain: bool = False):
    """[blur], convolution and [activation]; the indices are those of the published keys.

    Args:
        inputs, outputs, size: channels and side of the kernel.
        down: halves the side.
        plain: without activation.
    """
    pad = 0 if down else size // 2
    if down and size == 1:
        # Only the samples that the convolution reads are filtered.
        parts: list[nn.Module] = [blur_before(size, 2), EqualConv2d(inputs, outputs, 1, bias=False)]
    else:
        stride = 2 if down else 1
        parts = [blur_before(size)] if down else []
        parts.append(EqualConv2d(inputs, outputs, size, stride, pad, bias=False))
    return nn.Sequential(*parts, *([] if plain else [FusedLeakyReLU(outputs)]))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = layer(inputs, inputs, 3)
        self.conv2 = layer(inputs, outputs, 3, down=True)
        self.skip = layer(inputs, outputs, 1, down=True, plain=True)

    def forward(self, values: Tensor) -> Tensor:
        return (self.conv2(self.conv1(values)) + self.skip(values)) / math.sqrt(2)


def branch(
    size: int, channel_multiplier: int = 2, width: int = 512, inputs: int = 3
) -> nn.Sequential:
    """Pictures (B,inputs,size,size) to maps (B,C,4,4); arguments are those of `Discriminator`.

    Raises:
        ValueError: the side is no power of two from 8.
    """
    style_count(size)
    sides = [size >> step for step in range(int(math.log2(size)) - 1)]
    widths = [channels_at(side, channel_multiplier, width) for side in sides]
    blocks = [_Block(*pair) for pair in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(layer(inputs, widths[0], 1), *blocks)


class Discriminator(nn.Module):
    """Residual discriminator with the spread of the batch as a channel.

    Args:
        size: side of the pictures, a power of two from 8.
        channel_multiplier: width above 32 px.
        width: largest width; published networks have 512.

    Raises:
        ValueError: another side.
    """

    def __init__(self, size: int, channel_multiplier: int = 2, width: int = 512):
        super().__init__()
        self.convs = branch(size, channel_multiplier, width)
        last = channels_at(4, channel_multiplier, width)
        self.final_conv = layer(last + 1, last, 3)
        self.final_linear = nn.Sequential(
            EqualLinear(last * 16, last, activation=True), EqualLinear(last, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B,1) of pictures (B,3,size,size).

        Raises:
            ValueError: more than four pictures whose number is no multiple of four.
        """
        values = with_spread(self.convs(images))
        return self.final_linear(self.final_conv(values).flatten(1))


def with_spread(values: Tensor, most: int = 4) -> Tensor:
    """Maps (B,C,H,W) with a channel more: the mean deviation in groups of up to ``most`` rows.

    Raises:
        ValueError: the rows make no whole groups.
    """
    count, _, height, width = values.shape
    group = min(count, most)
    if count % group:
        raise ValueError(f"batch: expected a multiple of {most} pictures, found {count}")
    apart = values.view(group, -1, *values.shape[1:]).var(0, unbiased=False)
    spread = (apart + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat(
        [values, spread.repeat(group).view(-1, 1, 1, 1).expand(-1, 1, height, width)], 1
    )


class LatentDiscriminator(nn.Module):
    """Tells styles of the mapping network from those of an encoder.

    The layout is e4e's, or with ``flat`` inputs that of lintsao/2023_Summer_Intern, whose first
    layer takes all rows of a W+ code and has no activation.
    """

    def __init__(self, style_dim: int = 512, n_mlp: int = 4, flat: int | None = None):
        super().__init__()
        layers: list[nn.Module] = [] if flat is None else [nn.Linear(flat, style_dim)]
        for _ in range(n_mlp - 1 - len(layers)):
            layers += [nn.Linear(style_dim, style_dim), nn.LeakyReLU(0.2)]
        self.mlp = nn.Sequential(*layers, nn.Linear(style_dim, 1))

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits (B,1) of styles (B, style_dim) or flat codes (B, flat)."""
        return self.mlp(codes)


class LatentPool:
    """Earlier styles, handed out in place of half of the new ones (omertov/encoder4editing).

    Args:
        size: how many are kept; 0 hands out the new ones.
        draws: what is drawn from, in the published order.
    """

    def __init__(self, size: int, draws: random.Random):
        self.size, self.draws, self.kept = size, draws, []

    def query(self, codes: Tensor) -> Tensor:
        """Return styles (B, dim) for (B, dim), or for a drawn row each of (B, rows, dim)."""
        if not self.size:
            return codes
        return torch.stack([self._one(code) for code in codes])

    def _one(self, code: Tensor) -> Tensor:
        if code.ndim == 2:
            code = code[self.draws.randint(0, len(code) - 1)]
        if len(self.kept) < self.size:
            self.kept.append(code)
        elif self.draws.uniform(0, 1) > 0.5:
            place = self.draws.randint(0, self.size - 1)
            code, self.kept[place] = self.kept[place].clone(), code
        return code


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Non-saturating loss of a discriminator of logits."""
    return F.softplus(-real).mean() + F.softplus(made).mean()


def generator_loss(made: Tensor) -> Tensor:
    """Non-saturating loss of what a discriminator gave these logits."""
    return F.softplus(-made).mean()


def gradient_penalty(logits: Tensor, inputs: Tensor) -> Tensor:
    """R1 of Mescheder et al. 2018: mean squared norm of the slope of ``logits`` in ``inputs``."""
    (slope,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def delta_norm(codes: Tensor, rows: Sequence[int] | range, norm: float = 2) -> Tensor:
    """How far rows of W+ codes (B,R,D) are from row 0: the sum of mean distances (Tov et al.)."""
    return sum((codes[:, row] - codes[:, 0]).norm(norm, dim=1).mean() for row in rows)
