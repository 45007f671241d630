"""Feature maps of rays to pictures: the convolutions of HeadNeRF (``neural_render.*``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST = 32
"""Channels below which blocks do not go."""


class Blur(nn.Module):
    """Smooth maps by [1, 2, 1] in both directions; edges are reflected."""

    def __init__(self):
        super().__init__()
        self.register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B,C,H,W) of the same shape."""
        kernel = (self.f[:, None] * self.f) / self.f.sum().square()
        kernel = kernel.to(maps.dtype).expand(maps.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(maps, (1, 1, 1, 1), "reflect"), kernel, groups=maps.shape[1])


class Upsample(nn.Module):
    """Twice the side by moving channels into pixels."""

    def __init__(self, channels: int):
        super().__init__()
        self.layer_1 = nn.Conv2d(channels, 2 * channels, 1)
        self.layer_2 = nn.Conv2d(2 * channels, 4 * channels, 1)
        self.blur_layer = Blur()

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B,C,2H,2W)."""
        return self.blur_layer(self.sharp(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    def sharp(self, maps: Tensor) -> Tensor:
        """What is smoothed then: (B,2H,2W,C) of maps (B,H,W,C)."""
        count, height, width, channels = maps.shape
        values = F.leaky_relu(mixed(self.layer_1, maps), 0.2)
        # Channel 4 k + p becomes channel k of pixel p of the four. Rows of the weight are moved in
        # place of pictures, so that numbers that stay together are copied together.
        weight, bias = self.layer_2.weight.flatten(1), self.layer_2.bias
        weight = weight.unflatten(0, (channels, 4)).transpose(0, 1).flatten(0, 1)
        bias = bias.unflatten(0, (channels, 4)).t().flatten()
        values = F.leaky_relu(F.linear(values, weight, bias), 0.2).unflatten(-1, (4, channels))
        pixels = (values + _tiled(maps)).unflatten(3, (2, 2)).transpose(2, 3)
        return pixels.reshape(count, 2 * height, 2 * width, channels)


def _tiled(maps: Tensor) -> Tensor:
    """Maps (B,H,W,C) four times one after the other, number 4 k + p at (...,p,k)."""
    channels = maps.shape[-1]
    if channels % 4:
        return maps.repeat(1, 1, 1, 4).unflatten(-1, (channels, 4)).transpose(-1, -2)
    return maps.unflatten(-1, (channels // 4, 4)).transpose(-1, -2).repeat(1, 1, 1, 1, 4)


class NeuralRenderer(nn.Module):
    """Feature maps (B,channels,h,w) to pictures (B,3,h s,w s) in [0,1].

    Channels come last inside, so that a convolution of one pixel is a product of matrices.
    Smoothing changes places with the one that follows it, which has fewer channels: it works on
    each channel alike, and leaves what is the same everywhere, such as a bias, as it is.

    Args:
        channels: of the maps.
        side: of the whole map, which the background has.
        size_px: of the whole picture, ``side`` times a power of two.
        white: whether the background begins white; else black.
    """

    def __init__(self, channels: int, side: int, size_px: int, white: bool = True):
        super().__init__()
        blocks = (size_px // side).bit_length() - 1
        if blocks < 1 or side << blocks != size_px:
            raise ValueError(
                f"size_px: expected {side} times 2, 4, 8, ..., the side of the feature map, found "
                f"{size_px}"
            )
        widths = [max(channels // 2**number, _LEAST) for number in range(blocks + 1)]
        self.bg_featmap = nn.Parameter(torch.full((1, channels, side, side), float(white)))
        self.feat_upsample_list = nn.ModuleList(Upsample(width) for width in widths[:-1])
        self.rgb_upsample = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), Blur())
        self.feat_2_rgb_list = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in widths)
        pairs = zip(widths, widths[1:], strict=False)
        self.feat_layers = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in pairs)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pictures."""
        values = maps.permute(0, 2, 3, 1)
        picture = self.rgb_upsample(self._colours(0, values))
        last = len(self.feat_layers) - 1
        for number, layer in enumerate(self.feat_layers):
            block = self.feat_upsample_list[number]
            larger = mixed(layer, block.sharp(values)).permute(0, 3, 1, 2)
            values = F.leaky_relu(block.blur_layer(larger), 0.2).permute(0, 2, 3, 1)
            picture = picture + self._colours(number + 1, values)
            if number < last:
                picture = self.rgb_upsample(picture)
        return picture.sigmoid()

    def _colours(self, number: int, values: Tensor) -> Tensor:
        return mixed(self.feat_2_rgb_list[number], values).permute(0, 3, 1, 2)


def mixed(layer: nn.Conv2d, values: Tensor) -> Tensor:
    """A convolution of one pixel over values (...,i) whose channels come last."""
    return F.linear(values, layer.weight.flatten(1), layer.bias)
