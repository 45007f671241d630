"""DiffusionRig's networks: a denoising U-Net with two modulations, and the encoder of pictures.

Keys and arithmetic are those of ``adobe-research/diffusion-rig`` (diffusion/model.py), which
follows the U-Net of Dhariwal and Nichol 2021. The first modulation tells the step, the second a
code of the whole picture; the rendered buffers are further channels of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

GROUPS = 32
"""Of all norms: channels are multiples of it."""

ENCODERS = ("resnet18", "resnet50", "compact")


@dataclass(frozen=True)
class RigConfig:
    """What the networks are made of.

    Attributes:
        channels: of the U-Net at factor 1.
        factors: of channels, per level from the finest.
        blocks: residual blocks per level.
        attention: downsampling factors of the levels that attend.
        heads: of attention; ``head_channels`` per head take their place where they are given.
        upsample_heads: those of the way up; None: as many.
        dropout: share.
        block_resampling: residual blocks change the resolution; else convolutions.
        new_attention: heads are split after query, key and value.
        latent: numbers of the picture's code.
        inputs: channels of noisy picture and buffers.
        outputs: 3, or 6 with a learned range of variances.
        encoder: one of :data:`ENCODERS`.
        unshuffle: side of blocks of pixels that are channels within the U-Net.
    """

    channels: int = 128
    factors: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    heads: int = 1
    head_channels: int | None = None
    upsample_heads: int | None = None
    dropout: float = 0.1
    block_resampling: bool = True
    new_attention: bool = False
    latent: int = 64
    inputs: int = 12
    outputs: int = 3
    encoder: str = "resnet18"
    unshuffle: int = 1


class Norm(nn.GroupNorm):
    """Group norm, always in float32."""

    def __init__(self, channels: int):
        super().__init__(GROUPS, channels)

    def forward(self, values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return super().forward(values.float()).to(values.dtype)


def step_embedding(steps: Tensor, width: int) -> Tensor:
    """Cosines and sines (B, width) float32 of step numbers (B,), which may be fractions."""
    half = width // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = steps.float()[:, None] * rates.to(steps.device)
    found = torch.cat([angles.cos(), angles.sin()], 1)
    return F.pad(found, (0, width % 2))


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ConvDown(nn.Module):
    """Half the resolution by a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.op(values)


class ConvUp(nn.Module):
    """Twice the resolution, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv(F.interpolate(values, scale_factor=2.0, mode="nearest"))


class ResBlock(nn.Module):
    """A residual block that is told the step, then the picture's code."""

    def __init__(self, inner: int, outer: int, config: RigConfig, resample: str = ""):
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            Norm(inner), nn.SiLU(), nn.Conv2d(inner, outer, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * config.channels, 2 * outer))
        self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(config.latent, 2 * outer))
        last = _zero(nn.Conv2d(outer, outer, 3, padding=1))
        self.out_layers = nn.Sequential(Norm(outer), nn.SiLU(), nn.Dropout(config.dropout), last)
        self.skip_connection = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(self, values: Tensor, step: Tensor, code: Tensor) -> Tensor:
        norm, act, conv = self.in_layers
        hidden, skip = act(norm(values)), values
        if self.resample:
            hidden, skip = (_RESAMPLED[self.resample](one) for one in (hidden, skip))
        hidden = self.out_layers[0](conv(hidden))
        for told in (self.emb_layers(step), self.cond_emb_layers(code)):
            scale, shift = told.to(hidden.dtype)[..., None, None].chunk(2, 1)
            hidden = hidden * (1 + scale) + shift
        return self.skip_connection(skip) + self.out_layers[1:](hidden)


_RESAMPLED = {
    "up": lambda values: F.interpolate(values, scale_factor=2.0, mode="nearest"),
    "down": lambda values: F.avg_pool2d(values, 2),
}


class AttentionBlock(nn.Module):
    """Self-attention over all places."""

    def __init__(self, channels: int, heads: int, split_last: bool):
        super().__init__()
        self.heads, self.split_last = heads, split_last
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zero(nn.Conv1d(channels, channels, 1))

    def forward(self, values: Tensor) -> Tensor:
        flat = values.flatten(2)
        found = self.qkv(self.norm(flat))
        if self.split_last:
            parts = found.unflatten(1, (3, self.heads, -1)).unbind(1)
        else:
            parts = found.unflatten(1, (self.heads, 3, -1)).unbind(2)
        query, key, value = (part.transpose(2, 3) for part in parts)
        seen = F.scaled_dot_product_attention(query, key, value)
        return (flat + self.proj_out(seen.transpose(2, 3).flatten(1, 2))).view_as(values)


class Entry(nn.Sequential):
    """Layers of an entry; residual blocks are told step and code."""

    def forward(self, values: Tensor, step: Tensor, code: Tensor) -> Tensor:
        for layer in self:
            told = (step, code) if isinstance(layer, ResBlock) else ()
            values = layer(values, *told)
        return values


class DenoisingUNet(nn.Module):
    """The U-Net; see the module."""

    def __init__(self, config: RigConfig):
        super().__init__()
        self.config, width = config, 4 * config.channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        sizes = [int(factor * config.channels) for factor in config.factors]
        here = sizes[0]
        block = config.unshuffle**2
        stem = nn.Conv2d(config.inputs * block, here, 3, padding=1)
        self.input_blocks = nn.ModuleList([Entry(stem)])
        kept = [here]
        for level, size in enumerate(sizes):
            for _ in range(config.blocks):
                self.input_blocks.append(Entry(*self._block(here, size, level, config.heads)))
                here = size
                kept.append(here)
            if level < len(sizes) - 1:
                self.input_blocks.append(Entry(self._resampling(here, "down")))
                kept.append(here)
        self.middle_block = Entry(
            ResBlock(here, here, config),
            self._attention(here, config.heads),
            ResBlock(here, here, config),
        )
        self.output_blocks = nn.ModuleList()
        heads = config.upsample_heads or config.heads
        for level, size in reversed(list(enumerate(sizes))):
            for number in range(config.blocks + 1):
                layers = self._block(here + kept.pop(), size, level, heads)
                here = size
                if level and number == config.blocks:
                    layers.append(self._resampling(here, "up"))
                self.output_blocks.append(Entry(*layers))
        last = _zero(nn.Conv2d(here, config.outputs * block, 3, padding=1))
        self.out = nn.Sequential(Norm(here), nn.SiLU(), last)

    def _block(self, inner: int, outer: int, level: int, heads: int) -> list[nn.Module]:
        layers: list[nn.Module] = [ResBlock(inner, outer, self.config)]
        if 2**level in self.config.attention:
            layers.append(self._attention(outer, heads))
        return layers

    def _attention(self, channels: int, heads: int) -> AttentionBlock:
        if self.config.head_channels is not None:
            heads = channels // self.config.head_channels
        return AttentionBlock(channels, heads, self.config.new_attention)

    def _resampling(self, channels: int, way: str) -> nn.Module:
        if self.config.block_resampling:
            return ResBlock(channels, channels, self.config, way)
        return ConvDown(channels) if way == "down" else ConvUp(channels)

    def forward(self, values: Tensor, steps: Tensor, code: Tensor) -> Tensor:
        """What is predicted (B, outputs, H, W).

        Args:
            values: (B, inputs, H, W) noisy picture, then buffers.
            steps: (B,) numbers of steps in the whole chain.
            code: (B, latent) of the picture.
        """
        told = self.time_embed(step_embedding(steps, self.config.channels))
        kept, hidden = [], F.pixel_unshuffle(values, self.config.unshuffle)
        for entry in self.input_blocks:
            hidden = entry(hidden, told, code)
            kept.append(hidden)
        hidden = self.middle_block(hidden, told, code)
        for entry in self.output_blocks:
            hidden = entry(torch.cat([hidden, kept.pop()], 1), told, code)
        return F.pixel_shuffle(self.out(hidden), self.config.unshuffle)


class CompactEncoder(nn.Module):
    """An encoder for CPUs: four halvings, the mean over all places, and one linear layer."""

    def __init__(self, latent: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((3, 32), (32, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(inner, outer, 3, 2, 1), nn.GroupNorm(8, outer), nn.SiLU()]
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(64, latent)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.fc(self.layers(pictures).mean((2, 3)))


def _encoder(config: RigConfig) -> nn.Module:
    if config.encoder == "compact":
        return CompactEncoder(config.latent)
    block, counts = (
        (BasicBlock, [2, 2, 2, 2]) if config.encoder == "resnet18" else (Bottleneck, [3, 4, 6, 3])
    )
    return ResNet(block, counts, num_classes=config.latent)


class RigNetwork(nn.Module):
    """U-Net and encoder under their published names.

    Raises:
        ValueError: channels that the norms or the heads do not divide.
    """

    def __init__(self, config: RigConfig):
        super().__init__()
        if fault := _fault(config.channels, config.factors, config.heads, config.head_channels):
            raise ValueError(fault)
        self.config = config
        self.denoisingUNet = DenoisingUNet(config)
        self.encoder = _encoder(config)

    def encode(self, pictures: Tensor) -> Tensor:
        """Codes (B, latent) of pictures (B, 3, H, W) in [-1, 1]."""
        return self.encoder(pictures)

    def forward(self, noisy: Tensor, steps: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """What is predicted (B, outputs, H, W): the noise, then where variances lie in their range.

        Args:
            noisy: (B, 3, H, W).
            steps: (B,) numbers of steps in the whole chain.
            buffers: (B, inputs - 3, H, W) rendered, normal, albedo, and others.
            code: (B, latent) of :meth:`encode`.
        """
        seen = torch.cat([noisy, buffers], 1)
        if seen.device.type == "cpu":
            # Convolutions in bfloat16 are quicker so.
            seen = seen.contiguous(memory_format=torch.channels_last)
        return self.denoisingUNet(seen, steps, code)


def _fault(channels: int, factors: Sequence[float], heads: int, per_head: int | None) -> str:
    for factor in factors:
        size = channels * factor
        if size % GROUPS or size < 1:
            return f"channels: {channels} x {factor} = {size:g}: expected multiples of {GROUPS}"
        if size % (per_head or heads):
            return f"heads: {size:g} channels: expected a multiple of {per_head or heads}"
    return ""
