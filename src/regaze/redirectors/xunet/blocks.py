"""Blocks of the X-UNet, with the parameter names of ``a6o/3d-diffusion-pytorch``.

Activations are (N, C, H, W) with the frames stacked in the batch, all of frame 0 before all of
frame 1, so that one frame is a contiguous slice. FiLM layers hold only their weights: the network
runs all layers of a level as one 1x1 convolution and hands the results to the blocks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from regaze.redirectors.xunet.kernels import (
    attention,
    double,
    group_norm,
    halve,
    norm_film,
    norm_silu,
)

_HALF = math.sqrt(0.5)


class GroupNorm(nn.Module):
    """Group normalisation under the reference's extra level of naming."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels, eps=1e-5)

    def _told(self):
        return self.gn.num_groups, self.gn.weight, self.gn.bias, self.gn.eps

    def forward(self, h):
        return group_norm(h, *self._told())

    def then_silu(self, h):
        """The activated normalised map."""
        return norm_silu(h, *self._told())

    def then_film(self, h, film, activation: bool):
        """The normalised map modulated by ``film`` of :func:`film_maps`, and activated if asked."""
        groups, weight, bias, eps = self._told()
        if torch.compiler.is_exporting():
            weight = bias = None
        return norm_film(h, groups, weight, bias, eps, film, activation)


class FiLM(nn.Module):
    """Weights of one per-pixel modulation: embedding -> scale and shift of ``channels``."""

    def __init__(self, emb_ch: int, channels: int):
        super().__init__()
        self.dense = nn.Linear(emb_ch, 2 * channels)


def film_maps(blocks: list[ResnetBlock], activated) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return ``(1 + scale, shift)`` of every block, from silu(embedding) (N, E, h, w).

    One convolution for all blocks of a level; the 1 is added to the bias, where it is free. So are
    weight and bias of the normalisation before it, in a graph, whose runtime would do them apart.
    """
    weights, biases, sizes = [], [], []
    for block in blocks:
        layer = block.film.dense
        channels = layer.out_features // 2
        scale, shift = layer.bias.split(channels)
        weight, bias = layer.weight, [scale + 1, shift]
        if torch.compiler.is_exporting():
            weight, bias = _after(block.groupnorm1.gn, weight, bias)
        weights.append(weight)
        biases += bias
        sizes += [channels, channels]
    weight = torch.cat(weights)[:, :, None, None]
    maps = F.conv2d(activated, weight, torch.cat(biases)).split(sizes, 1)
    return list(zip(maps[::2], maps[1::2], strict=True))


def _after(norm: nn.GroupNorm, weight, biases):
    """Weight and biases of a modulation of what ``norm`` makes, for what it scales and shifts."""
    scale, shift = weight.chunk(2)
    times, plus = biases
    turned = torch.cat([norm.weight[:, None] * scale, norm.bias[:, None] * scale + shift])
    return turned, [norm.weight * times, norm.bias * times + plus]


class ResnetBlock(nn.Module):
    """Two convolutions around a FiLM modulation, with a skip, then an optional resampling.

    Args:
        resample: None, ``down`` (2x2 average) or ``up`` (nearest, twice the size), applied last.
        activation: whether SiLU follows the modulation. The port, and so its checkpoints, have
            none; the paper's code has one.
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        emb_ch: int,
        groups: int,
        dropout: float,
        activation: bool,
        resample: str | None = None,
    ):
        super().__init__()
        self.resample = resample
        self.activation = activation
        self.dropout = dropout
        self.groupnorm0 = GroupNorm(in_ch, groups)
        self.groupnorm1 = GroupNorm(out_ch, groups)
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, padding=1)
        self.film = FiLM(emb_ch, out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.dense = nn.Conv2d(in_ch, out_ch, 1) if in_ch != out_ch else None

    def forward(self, h, film):
        """``h`` (N, in_ch, H, W) and ``film`` = (1 + scale, shift), (N, out_ch, H, W) each."""
        skip = h if self.dense is None else self.dense(h)
        h = self.conv1(self.groupnorm0.then_silu(h))
        h = self.groupnorm1.then_film(h, film, self.activation)
        if self.dropout and self.training:
            h = F.dropout(h, self.dropout)
        h = self.conv2(h).add_(skip).mul_(_HALF)
        if self.resample == "down":
            return halve(h)
        if self.resample == "up":
            return double(h)
        return h


class Attention(nn.Module):
    """Weights of ``nn.MultiheadAttention`` under its own names, run without the L x L matrix."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens, cross: str | None = None):
        """Attend over ``tokens`` (N, L, C).

        ``cross`` None: every image to itself. ``both``: the two halves of the batch (frames) to
        each other. ``last``: only the second half asks the first, and only it is returned.
        """
        if cross == "last":
            channels = tokens.shape[-1]
            source, target = tokens.chunk(2)
            wq, wkv = self.in_proj_weight.split((channels, 2 * channels))
            bq, bkv = self.in_proj_bias.split((channels, 2 * channels))
            q = F.linear(target, wq, bq)
            k, v = F.linear(source, wkv, bkv).chunk(2, -1)
        else:
            q, k, v = F.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
            if cross == "both":
                k, v = (part.roll(part.shape[0] // 2, 0) for part in (k, v))
        return self.out_proj(attention(q, k, v, self.heads))


class _AttnLayer(nn.Module):
    """The reference's extra level of naming around :class:`Attention`."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.attn = Attention(channels, heads)


class AttnBlock(nn.Module):
    """Normalise, attend within or between frames, project, add to the input."""

    def __init__(self, channels: int, heads: int, groups: int, cross: bool):
        super().__init__()
        self.cross = cross
        self.groupnorm = GroupNorm(channels, groups)
        self.attn_layer = _AttnLayer(channels, heads)
        self.linear = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.linear.weight)

    def forward(self, h, last: bool = False):
        """``h`` (N, C, H, W). ``last``: frame 0 is not needed afterwards, return frame 1 only."""
        height, width = h.shape[2:]
        tokens = self.groupnorm(h).permute(0, 2, 3, 1).flatten(1, 2)
        cross = ("last" if last else "both") if self.cross else None
        out = self.attn_layer.attn(tokens, cross)
        out = self.linear(out.unflatten(1, (height, width)).permute(0, 3, 1, 2))
        return out.add_(h[-out.shape[0] :]).mul_(_HALF)


class XUNetBlock(nn.Module):
    """A residual block and, where asked for, attention within and between frames.

    Only a container: the network runs the parts in turn, since it may treat frames apart.
    """

    def __init__(self, resnetblock: ResnetBlock, attention: list[bool], heads: int, groups: int):
        super().__init__()
        self.resnetblock = resnetblock
        channels = resnetblock.conv2.out_channels
        for cross in attention:
            name = "attnblock_cross" if cross else "attnblock_self"
            self.add_module(name, AttnBlock(channels, heads, groups, cross))
