"""IR-SE: ArcFace's improved residual networks with squeeze and excitation.

The layout is that of ``omertov/encoder4editing`` (``models/encoders/model_irse.py``), whose
identity loss uses it; its checkpoints load strictly. The published weights are those of
``TreB1eN/InsightFace_Pytorch``, trained on faces that MXNet's ``unpack_img``, that is OpenCV, gave
as B,G,R and that were saved as if they were R,G,B (``data/data_pipe.py``; its issue 13). e4e's loss
shows them R,G,B nevertheless.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from regaze.identity.base import FaceRecogniser, SqueezeExcite

UNITS = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
"""Residual units per stage by number of layers."""
WIDTHS = (64, 128, 256, 512)

LOSS_CROP = (35, 223, 32, 220)
"""Rows and columns that the identity loss of e4e cuts out of its 256 px faces."""


class IrSeUnit(nn.Module):
    """Batch norm, two convolutions and channel gates beside a shortcut; no activation after."""

    def __init__(self, channels: int, width: int, stride: int, squeeze: bool = True):
        super().__init__()
        layers: list[nn.Module] = [
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, width, 3, 1, 1, bias=False),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        ]
        self.res_layer = nn.Sequential(*layers, *([SqueezeExcite(width)] if squeeze else []))
        self.shortcut_layer = (
            nn.MaxPool2d(1, stride)
            if channels == width
            else nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, width, H/stride, W/stride) of (B, channels, H, W)."""
        return self.res_layer(values) + self.shortcut_layer(values)


def irse_trunk(
    num_layers: int = 50, squeeze: bool = True, inputs: int = 3
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return ``(input_layer, body)``: (B,inputs,H,W) to (B,64,H,W) to (B,512,H/16,W/16)."""
    first = nn.Conv2d(inputs, 64, 3, 1, 1, bias=False)
    stem = nn.Sequential(first, nn.BatchNorm2d(64), nn.PReLU(64))
    units, channels = [], 64
    for width, count in zip(WIDTHS, UNITS[num_layers], strict=True):
        for index in range(count):
            units.append(IrSeUnit(channels, width, 1 if index else 2, squeeze))
            channels = width
    return stem, nn.Sequential(*units)


class IrSe(FaceRecogniser):
    """The ``Backbone`` of e4e's identity loss; its output has unit length.

    Args:
        input_size: side of the input, a multiple of 16 (published 112).
        num_layers: 50, 100 or 152.
        squeeze: whether the units have channel gates (``ir_se``) or not (``ir``).
        drop_ratio: dropout before the linear layer, in training only.
        affine: whether the last batch norm has gains and biases.
    """

    name, alignment, embedding_size, channels = "irse50", "template", 512, "bgr"

    def __init__(
        self,
        input_size: int = 112,
        num_layers: int = 50,
        squeeze: bool = True,
        drop_ratio: float = 0.6,
        affine: bool = True,
    ):
        super().__init__()
        self.size_px = input_size
        self.input_layer, self.body = irse_trunk(num_layers, squeeze)
        side = input_size // 16
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(drop_ratio),
            nn.Flatten(),
            nn.Linear(512 * side * side, 512),
            nn.BatchNorm1d(512, affine=affine),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return unit vectors (B,512) of (B,3,input_size,input_size) in [-1,1], B,G,R."""
        return F.normalize(self.output_layer(self.body(self.input_layer(images))), dim=1)


def loss_crop(
    images: Tensor, size: int = 112, crop: tuple[int, int, int, int] = LOSS_CROP
) -> Tensor:
    """Return e4e's own input of the network: a fixed part of 256 px faces, averaged to ``size``.

    ``images`` is (B,3,256,256) FFHQ-aligned in [-1,1]; ``crop`` is top, bottom, left, right.
    """
    top, bottom, left, right = crop
    part = images[:, :, top:bottom, left:right]
    return F.adaptive_avg_pool2d(part, size)
