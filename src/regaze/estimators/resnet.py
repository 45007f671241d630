"""ResNet estimators of gaze and head direction; the independent judge of every redirector.

``ResnetReference`` is the published GazeHeadResNet (zhengyuf/STED-gaze
``models/gazeheadResnet.py``): ResNet-50 whose stem pooling keeps the resolution, with four raw
outputs. ``ResnetSmall`` reads 64-pixel patches on a CPU: a residual trunk on the pixel-unshuffled
face and a second, narrow trunk on the eye regions at full resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.eyes import eye_crops, side_by_side
from regaze.estimators.xgaze import VIEW, XGazeResnet, normalised


class ResnetReference(GazeHeadEstimator):
    """GazeHeadResNet with its published state-dict keys ``resnet50.*``."""

    arch, preset = "resnet", "reference"

    def __init__(self, size_px: int = 128, preprocess: str = "equalise"):
        super().__init__()
        self.size_px, self.preprocess = size_px, preprocess
        # Here, since torchvision takes seconds to import, and no other estimator wants it.
        from torchvision.models import resnet50

        self.resnet50 = resnet50(weights=None)
        self.resnet50.maxpool = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.embedding_size = self.resnet50.fc.in_features
        self.resnet50.fc = nn.Linear(self.embedding_size, 4)

    def embed(self, images: Tensor) -> Tensor:
        net = self.resnet50
        values = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            values = stage(values)
        return values.mean(dim=(2, 3))

    def head(self, embedding: Tensor) -> Tensor:
        return self.resnet50.fc(embedding)


class ResnetXGaze(GazeHeadEstimator):
    """The ResNet-50 of four outputs as an estimator of the workflow."""

    arch, preset = "resnet", "xgaze"

    def __init__(self, size_px: int = VIEW["patch_size"][0], preprocess: str = "none"):
        super().__init__()
        self.size_px, self.preprocess = size_px, preprocess
        self.network = XGazeResnet(50, 4)
        self.embedding_size = self.network.resnet.fc.in_features

    def embed(self, images: Tensor) -> Tensor:
        return self.network.embed(normalised(images))

    def head(self, embedding: Tensor) -> Tensor:
        return self.network.resnet.fc(embedding)


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (basic block of ResNet-18)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        for layer in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = None
        if stride > 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        kept = values if self.shortcut is None else self.shortcut(values)
        values = F.relu(self.norm1(self.conv1(values)), inplace=True)
        return F.relu(self.norm2(self.conv2(values)) + kept, inplace=True)


def _stages(channels: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> nn.Sequential:
    layers = []
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for index in range(count):
            layers.append(_Block(channels, width, 2 if stage and index == 0 else 1))
            channels = width
    return nn.Sequential(*layers)


class ResnetSmall(GazeHeadEstimator):
    """Residual trunk on the pixel-unshuffled patch, with a full-resolution trunk on the eyes.

    ``size_px`` is a multiple of 32. ``widths`` and ``blocks`` give the stages of the face trunk at
    1/2, 1/4, ... of the patch; ``eye_widths`` and ``eye_blocks`` those of the eye trunk at 1/1,
    1/2, ... Both eyes share one trunk, the second one mirrored, since
    a right eye is a mirrored left eye. Last maps are not averaged away but read by position:
    where the iris sits is the answer. ``hidden`` is the width of the embedding.
    """

    arch = "resnet"

    def __init__(
        self,
        size_px: int = 64,
        preprocess: str = "none",
        *,
        preset: str = "small",
        widths: tuple[int, ...] = (24, 48, 96, 128),
        blocks: tuple[int, ...] = (1, 1, 1, 1),
        eye_widths: tuple[int, ...] = (24, 48, 64),
        eye_blocks: tuple[int, ...] = (1, 1, 1),
        hidden: int = 128,
    ):
        super().__init__()
        if size_px % 32:
            raise ValueError(
                f"size_px: expected a multiple of 32 for the {preset} resnet, found {size_px}"
            )
        self.preset, self.size_px, self.preprocess = preset, size_px, preprocess
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        self.face = _stages(widths[0], widths, blocks)
        self.eye_stem = nn.Conv2d(3, eye_widths[0], 3, padding=1, bias=False)
        self.eye_norm = nn.BatchNorm2d(eye_widths[0])
        self.eyes = _stages(eye_widths[0], eye_widths, eye_blocks)
        features = widths[-1] * 16 + 2 * eye_widths[-1] * 20
        self.project = nn.Linear(features, hidden)
        self.project_norm = nn.BatchNorm1d(hidden)
        self.angles = nn.Linear(hidden, 4)
        nn.init.normal_(self.angles.weight, std=0.01)
        nn.init.zeros_(self.angles.bias)
        self.embedding_size = hidden

    def _eye_features(self, images: Tensor) -> Tensor:
        eyes = self.eye_stem(eye_crops(images))
        return side_by_side(self.eyes(F.relu(self.eye_norm(eyes))))

    def embed(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        face = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        face = self.face(F.relu(self.stem_norm(self.stem(face))))
        features = F.adaptive_avg_pool2d(face, (4, 4)).flatten(1)
        features = torch.cat([features, self._eye_features(images)], 1)
        return F.relu(self.project_norm(self.project(features)))

    def head(self, embedding: Tensor) -> Tensor:
        return self.angles(embedding)
