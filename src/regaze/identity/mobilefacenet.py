"""MobileFaceNet (Chen et al., CCBR 2018) in the layout of ``JDAI-CV/FaceX-Zoo``.

``AlessandroRuzzi/GazeNeRF`` measures identity with it, on the ArcFace crop. Its training reads
pictures by OpenCV, in the order B,G,R, as (v - 127.5) / 128 (``data_processor/train_dataset.py``).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from regaze.identity.base import FaceRecogniser


class _Convolution(nn.Module):
    """Convolution, batch norm and, unless linear, a PReLU."""

    def __init__(self, channels, width, kernel=1, stride=1, padding=0, groups=1, linear=False):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.prelu = None if linear else nn.PReLU(width)

    def forward(self, values: Tensor) -> Tensor:
        values = self.bn(self.conv(values))
        return values if self.prelu is None else self.prelu(values)


class _Bottleneck(nn.Module):
    """Widen, convolve each channel, project; with its input added when ``residual``."""

    def __init__(self, channels, width, inner, stride=1, residual=False):
        super().__init__()
        self.conv = _Convolution(channels, inner)
        self.conv_dw = _Convolution(inner, inner, 3, stride, 1, groups=inner)
        self.project = _Convolution(inner, width, linear=True)
        self.residual = residual

    def forward(self, values: Tensor) -> Tensor:
        made = self.project(self.conv_dw(self.conv(values)))
        return values + made if self.residual else made


class _Repeated(nn.Module):
    def __init__(self, channels: int, inner: int, count: int):
        super().__init__()
        units = [_Bottleneck(channels, channels, inner, residual=True) for _ in range(count)]
        self.model = nn.Sequential(*units)

    def forward(self, values: Tensor) -> Tensor:
        return self.model(values)


class MobileFaceNet(FaceRecogniser):
    """A small recogniser whose output has unit length.

    Args:
        embedding_size: length of the vectors.
        out_h, out_w: size of the last map; 7 x 7 for 112 px faces, a sixteenth of the input.
    """

    name, alignment, channels, scale = "mobilefacenet", "template", "bgr", 127.5 / 128

    def __init__(self, embedding_size: int = 512, out_h: int = 7, out_w: int = 7):
        super().__init__()
        self.embedding_size, self.size_px = embedding_size, 16 * out_h
        self.conv1 = _Convolution(3, 64, 3, 2, 1)
        self.conv2_dw = _Convolution(64, 64, 3, 1, 1, groups=64)
        self.conv_23 = _Bottleneck(64, 64, 128, stride=2)
        self.conv_3 = _Repeated(64, 128, 4)
        self.conv_34 = _Bottleneck(64, 128, 256, stride=2)
        self.conv_4 = _Repeated(128, 256, 6)
        self.conv_45 = _Bottleneck(128, 128, 512, stride=2)
        self.conv_5 = _Repeated(128, 256, 2)
        self.conv_6_sep = _Convolution(128, 512)
        self.conv_6_dw = _Convolution(512, 512, (out_h, out_w), groups=512, linear=True)
        self.linear = nn.Linear(512, embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, embedding_size) of (B,3,16 out_h,16 out_w) B,G,R."""
        values = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(images))))
        values = self.conv_5(self.conv_45(self.conv_4(self.conv_34(values))))
        values = self.conv_6_dw(self.conv_6_sep(values)).flatten(1)
        return F.normalize(self.bn(self.linear(values)), dim=1)
