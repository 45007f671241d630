"""Layers of StyleGAN2 with equalised learning rates, modulated weights and FIR filters.

The layout is that of rosinality/stylegan2-pytorch (``model.py``, ``op/``). The order of the work
is not: styles scale the maps before a convolution and demodulation scales them after it, so that
all rows of a batch share one convolution, and filters are depthwise convolutions that compute only
the samples that are kept. ``benchmarks/stylegan.py`` compares both orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLUR = (1, 3, 3, 1)
_GAIN, _SLOPE, _EPS = math.sqrt(2), 0.2, 1e-8


def make_kernel(taps: Sequence[float]) -> Tensor:
    """The filter (K,K) of sum 1 whose rows and columns are ``taps``."""
    row = torch.tensor(taps, dtype=torch.float32)
    return row.outer(row) / row.sum() ** 2


def upfirdn2d(
    images: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:
    """Insert ``up - 1`` zeros after every sample, pad, convolve, keep every ``down``-th sample.

    Args:
        images: (B,C,H,W).
        kernel: (K,K), turned as in a true convolution.
        up, down: factors.
        pad: samples of zeros before and after, on both axes; negative ones cut off.

    Returns:
        (B,C,h,w), ``h = (H up + pad[0] + pad[1] - K) // down + 1``.
    """
    channels, size = images.shape[1], kernel.shape[0]
    taps = kernel.to(images.dtype).expand(channels, 1, -1, -1)
    before, after = pad
    if up == 1:
        if before == after and before >= 0:
            return F.conv2d(images, taps.flip(2, 3), None, down, before, groups=channels)
        padded = F.pad(images, (before, after, before, after))
        return F.conv2d(padded, taps.flip(2, 3), None, down, groups=channels)
    # Full convolution of the spread samples; what padding asks for beyond or within it is cut.
    full = F.conv_transpose2d(images, taps, None, up, groups=channels)
    left, right = before + 1 - size, after + up - size
    return F.pad(full, (left, right, left, right))[:, :, ::down, ::down]


class Filter(nn.Module):
    """:func:`upfirdn2d` of a stored ``kernel``."""

    def __init__(
        self,
        pad: tuple[int, int],
        up: int = 1,
        down: int = 1,
        gain: float = 1,
        taps: Sequence[float] = BLUR,
    ):
        super().__init__()
        self.pad, self.up, self.down = pad, up, down
        self.register_buffer("kernel", gain * make_kernel(taps))

    def forward(self, images: Tensor) -> Tensor:
        """Return the filtered maps; sizes as in :func:`upfirdn2d`."""
        return upfirdn2d(images, self.kernel, self.up, self.down, self.pad)


def upsample(taps: Sequence[float] = BLUR) -> Filter:
    """Twice the side: what skips of pictures are drawn larger with."""
    pad = len(taps) - 2
    return Filter(((pad + 1) // 2 + 1, pad // 2), up=2, gain=4, taps=taps)


def blur_before(size: int, stride: int = 1, taps: Sequence[float] = BLUR) -> Filter:
    """The filter before a convolution of ``size`` and stride 2."""
    pad = len(taps) - 2 + size - 1
    return Filter(((pad + 1) // 2, pad // 2), down=stride, taps=taps)


class PixelNorm(nn.Module):
    """Division by the root mean square over the second axis."""

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape (B,C,...)."""
        return values * (values.square().mean(1, keepdim=True) + _EPS).rsqrt()


class FusedLeakyReLU(nn.Module):
    """Bias per channel, slope 0.2 below 0, times sqrt(2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape (B,C,...)."""
        return activated(values + self.bias.view(-1, *[1] * (values.ndim - 2)))


def activated(values: Tensor) -> Tensor:
    """Slope 0.2 below 0, times sqrt(2)."""
    return F.leaky_relu(values, _SLOPE) * _GAIN


class EqualLinear(nn.Module):
    """A linear layer whose stored weights have unit variance, at a learning rate of its own.

    Args:
        inputs, outputs: sizes.
        lr_mul: factor of the learning rate.
        bias: where biases start.
        activation: whether :func:`activated` follows.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        lr_mul: float = 1.0,
        bias: float = 0.0,
        activation: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias)))
        self.scale, self.lr_mul, self.activation = lr_mul / math.sqrt(inputs), lr_mul, activation

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., outputs) of (..., inputs)."""
        values = F.linear(values, self.weight * self.scale, self.bias * self.lr_mul)
        return activated(values) if self.activation else values


class EqualConv2d(nn.Module):
    """A convolution whose stored weights have unit variance."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, pad: int = 0, bias: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.stride, self.pad = 1 / math.sqrt(inputs * size**2), stride, pad

    def forward(self, values: Tensor) -> Tensor:
        """Return (B,outputs,h,w) of (B,inputs,H,W)."""
        return F.conv2d(values, self.weight * self.scale, self.bias, self.stride, self.pad)


class ModulatedConv2d(nn.Module):
    """A convolution whose input channels are scaled by a style, row by row.

    Args:
        inputs, outputs, size: channels and side of the kernel.
        style: size of the style vector.
        demodulate: whether output channels are scaled to unit variance.
        resample: ``up`` or ``down`` changes the side by 2, with a blur; None keeps it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        style: int,
        demodulate: bool = True,
        resample: str | None = None,
        taps: Sequence[float] = BLUR,
    ):
        super().__init__()
        self.demodulate, self.resample, self.size = demodulate, resample, size
        self.scale = 1 / math.sqrt(inputs * size**2)
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size))
        if resample == "up":
            pad = len(taps) - 2 - (size - 1)
            self.blur = Filter(((pad + 1) // 2 + 1, pad // 2 + 1), gain=4, taps=taps)
        elif resample == "down":
            self.blur = blur_before(size, taps=taps)
        self.modulation = EqualLinear(style, inputs, bias=1)

    def forward(self, values: Tensor, style: Tensor) -> Tensor:
        """Return (B,outputs,h,w) of (B,inputs,H,W) and (B,style)."""
        values, gains = self.convolved(values, style)
        return values if gains is None else values * gains

    def convolved(self, values: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """The maps before demodulation, and the factors (B,outputs,1,1) of it, None without."""
        scales, weight = self.modulation(style) * self.scale, self.weight[0]
        gains = None
        if self.demodulate:
            squares = scales.square() @ weight.square().sum((2, 3)).T
            gains = (squares + _EPS).rsqrt()[:, :, None, None]
        values = values * scales[:, :, None, None]
        if self.resample == "up":
            return self.blur(F.conv_transpose2d(values, weight.transpose(0, 1), stride=2)), gains
        if self.resample == "down":
            return F.conv2d(self.blur(values), weight, stride=2), gains
        return F.conv2d(values, weight, padding=self.size // 2), gains


class NoiseInjection(nn.Module):
    """Adds noise of a learned strength."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, values: Tensor, noise: Tensor) -> Tensor:
        """Return (B,C,H,W) with noise (B or 1,1,H,W) added."""
        return values + self.weight * noise


class StyledConv(nn.Module):
    """Modulated convolution, noise, activation."""

    def __init__(
        self, inputs: int, outputs: int, size: int, style: int, resample: str | None = None
    ):
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, size, style, resample=resample)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(outputs)

    def forward(self, values: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """Return (B,outputs,h,w) of (B,inputs,H,W), (B,style) and noise (B or 1,1,h,w)."""
        values, gains = self.conv.convolved(values, style)
        # A leaky ReLU commutes with positive factors: its gain joins those of demodulation.
        bias = _GAIN * self.activate.bias[:, None, None]
        values = torch.addcmul(bias, values, _GAIN * gains)
        values = values + (_GAIN * self.noise.weight) * noise
        return F.leaky_relu(values, _SLOPE)


class ToRgb(nn.Module):
    """Colours of a map, added to those of the map at half its side."""

    def __init__(self, inputs: int, style: int, larger: bool = True):
        super().__init__()
        if larger:
            self.upsample = upsample()
        self.conv = ModulatedConv2d(inputs, 3, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, values: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return (B,3,H,W) of (B,inputs,H,W), (B,style) and, if there is one, (B,3,H/2,W/2)."""
        colours = self.conv(values, style) + self.bias
        return colours if skip is None else colours + self.upsample(skip)
