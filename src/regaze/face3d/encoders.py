"""Networks that read a face crop: DECA's coarse and detail encoder, EMOCA's expression encoder.

All three are one class: a residual trunk and two linear layers. ``reference`` has the published
layout and key names (``yfeng95/DECA`` decalib/models/encoders.py, ``radekd91/emoca``
gdl/models/DecaEncoder.py): a ResNet-50 on 224 x 224 crops. ``small`` and ``tiny`` keep the code and
shrink the trunk, for training on a CPU and for tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODE = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3, "light": 27}
"""Parts of the coarse encoder's output, in order, with their lengths; 236 numbers in all."""

DETAIL = 128
"""Length of the detail code."""


@dataclass(frozen=True)
class Trunk:
    """What a preset is made of: side of the crop in pixels, widths of the small trunk's stages
    (none for the ResNet-50) and width of the hidden linear layer."""

    size_px: int
    widths: tuple[int, ...]
    hidden: int


PRESETS = {
    "reference": Trunk(224, (), 1024),
    "small": Trunk(64, (32, 64, 128, 192), 256),
    "tiny": Trunk(32, (8, 16, 16), 32),
}


class CodeEncoder(nn.Module):
    """Image to code, without a final activation.

    Args:
        out: length of the code: 236 for the coarse encoder, 128 for details, 50 for expressions.
        preset: ``reference``, ``small`` or ``tiny``.

    Raises:
        ValueError: an unknown preset.
    """

    def __init__(self, out: int = sum(CODE.values()), preset: str = "reference"):
        super().__init__()
        if preset not in PRESETS:
            raise ValueError(
                f"encoder preset: expected one of {', '.join(PRESETS)}, found {preset!r}"
            )
        trunk = PRESETS[preset]
        self.preset, self.size_px = preset, trunk.size_px
        self.encoder = SmallTrunk(trunk) if trunk.widths else _resnet50()
        self.layers = nn.Sequential(
            nn.Linear(self.encoder.features, trunk.hidden), nn.ReLU(), nn.Linear(trunk.hidden, out)
        )

    def features(self, images: Tensor) -> Tensor:
        """Return what the trunk sees, (B, F); F is 2048 for ``reference``.

        Args:
            images: (B, 3, S, S) RGB in [0,1], S the preset's side; no mean is subtracted.
        """
        return self.encoder(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return the code, (B, out); see :meth:`features`."""
        return self.layers(self.features(images))


def _resnet50() -> nn.Module:
    """torchvision's ResNet-50 up to its average over the 7 x 7 map."""
    # Here, since torchvision takes seconds to import, and no other preset wants it.
    from torchvision.models import resnet50

    network = resnet50()
    network.fc = nn.Identity()
    network.features = 2048
    return network


class Block(nn.Module):
    """ResNet-18's basic block: two 3x3 convolutions with batch norm, and a shortcut."""

    def __init__(self, before: int, after: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = downsample

    def forward(self, values: Tensor) -> Tensor:
        shortcut = values if self.downsample is None else self.downsample(values)
        values = F.relu(self.bn1(self.conv1(values)), inplace=True)
        return F.relu(self.bn2(self.conv2(values)).add_(shortcut), inplace=True)


class SmallTrunk(nn.Module):
    """Basic residual blocks on 2 x 2 pixel blocks; the last 4 x 4 map is read by position.

    Where things are is what a head pose is made of, so nothing is averaged away.
    """

    def __init__(self, trunk: Trunk):
        super().__init__()
        widths = trunk.widths
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        stages, channels = [], widths[0]
        for number, width in enumerate(widths):
            stride = 1 if number == 0 else 2
            shortcut = None
            if stride > 1 or width != channels:
                shortcut = nn.Sequential(
                    nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                )
            stages.append(Block(channels, width, stride, shortcut))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.features = 16 * channels

    def forward(self, values: Tensor) -> Tensor:
        values = F.pixel_unshuffle(2.0 * values - 1.0, 2)
        values = values.contiguous(memory_format=torch.channels_last)
        values = self.stages(F.relu(self.norm(self.stem(values)), inplace=True))
        return F.adaptive_avg_pool2d(values, 4).flatten(1)


def split_code(code: Tensor) -> dict[str, Tensor]:
    """Return the parts of the coarse code (B, 236) by the names of :data:`CODE`.

    ``light`` becomes (B, 9, 3), spherical-harmonic coefficient by colour.
    """
    parts = dict(zip(CODE, code.split(list(CODE.values()), 1), strict=True))
    parts["light"] = parts["light"].reshape(-1, 9, 3)
    return parts
