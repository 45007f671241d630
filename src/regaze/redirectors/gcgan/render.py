"""The render net: a map of features to a picture and its segmentation, at growing resolution.

StyleGAN2's synthesis without styles: a convolution's weights are the same for the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.redirectors.gcgan.local import ToMap
from regaze.stylegan.generator import channels_at
from regaze.stylegan.ops import Filter, FusedLeakyReLU, NoiseInjection

_GAIN, _SLOPE, _EPS = math.sqrt(2), 0.2, 1e-8


class RenderConv(nn.Module):
    """A 3x3 convolution of unit variance, noise and activation; ``up`` doubles the side first."""

    def __init__(self, inputs: int, outputs: int, up: bool = False):
        super().__init__()
        self.up, self.scale = up, 1 / math.sqrt(9 * inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.modulation = nn.Parameter(torch.ones(1, inputs, 1, 1))
        if up:
            self.blur = Filter((1, 1), gain=4)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(outputs)

    def forward(self, values: Tensor, noise: Tensor) -> Tensor:
        """Return (B,outputs,h,w) of (B,inputs,H,W) and noise (B or 1,1,h,w)."""
        weight = self.weight * (self.scale * self.modulation)
        weight = weight * (_GAIN * (weight.square().sum((1, 2, 3), keepdim=True) + _EPS).rsqrt())
        if self.up:
            values = self.blur(F.conv_transpose2d(values, weight.transpose(0, 1), stride=2))
        else:
            values = F.conv2d(values, weight, padding=1)
        # A leaky ReLU commutes with its gain, which is in all that is added here.
        added = (_GAIN * self.noise.weight) * noise + (_GAIN * self.activate.bias)[:, None, None]
        return F.leaky_relu(values + added, _SLOPE)


class RenderNet(nn.Module):
    """Features (B,F,c,c) to pictures and scores of classes.

    Args:
        size: side of the pictures.
        seg_dim: classes.
        coarse_size, coarse_channel: of the features.
        min_feat_size: side that they are pooled to first.
        multiplier, channel_max: widths, see :func:`regaze.stylegan.generator.channels_at`.
        residual_refine: coarse shares of classes are added to their scores.
    """

    def __init__(
        self,
        size: int,
        seg_dim: int,
        coarse_size: int,
        coarse_channel: int,
        min_feat_size: int,
        multiplier: int,
        channel_max: int,
        residual_refine: bool,
    ):
        super().__init__()
        self.coarse_size, self.min_feat_size = coarse_size, min_feat_size
        self.residual_refine = residual_refine
        self.convs, self.to_rgbs, self.to_segs = (nn.ModuleList() for _ in range(3))
        self.noises = nn.Module()
        after, side, drawn = coarse_channel, min_feat_size, torch.Generator().manual_seed(0)
        while side < size:
            before = after + (coarse_channel if side == coarse_size else 0)
            side *= 2
            after = channels_at(side, multiplier, channel_max)
            self.convs.append(RenderConv(before, after, up=True))
            self.convs.append(RenderConv(after, after))
            self.to_rgbs.append(ToMap(after, 3))
            self.to_segs.append(ToMap(after, seg_dim))
            for number in (len(self.convs) - 2, len(self.convs) - 1):
                noise = torch.randn(1, 1, side, side, generator=drawn)
                self.noises.register_buffer(f"noise_{number}", noise)

    def stored_noise(self) -> list[Tensor]:
        """The maps (1,1,r,r) of noise that belong to the weights, one per convolution."""
        return list(self.noises.buffers())

    def forward(
        self, features: Tensor, shares: Tensor, noise: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Draw pictures (B,3,S,S) and scores (B,seg_dim,S,S), neither limited.

        Args:
            features: (B,F,c,c).
            shares: (B,seg_dim,c,c) in [-1,1], coarse shares of the classes.
            noise: a map (B or 1,1,r,r) per convolution.
        """
        values = F.adaptive_avg_pool2d(features, self.min_feat_size)
        both = None
        for level, (to_rgb, to_seg) in enumerate(zip(self.to_rgbs, self.to_segs, strict=True)):
            if values.shape[-1] == self.coarse_size:
                values = torch.cat([values, features], 1)
            values = self.convs[2 * level](values, noise[2 * level])
            values = self.convs[2 * level + 1](values, noise[2 * level + 1])
            # Colours and scores are one product, and are enlarged together.
            matrix = torch.cat([to_rgb.matrix, to_seg.matrix])[..., None, None]
            bias = torch.cat([to_rgb.bias, to_seg.bias], 1)
            found = F.conv2d(values, matrix, bias.flatten())
            both = found if both is None else found + to_rgb.upsample(both)
            if self.residual_refine and both.shape[-1] == self.coarse_size:
                both = both + F.pad(shares, (0, 0, 0, 0, 3, 0))
        return both[:, :3], both[:, 3:]
