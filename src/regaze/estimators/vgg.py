"""VGG estimators of gaze and head direction; their early features serve as training losses.

``VggReference`` is the published GazeHeadNet (zhengyuf/STED-gaze ``models/gazeheadnet.py``):
VGG-16's convolutions, the mean over the last map, three linear layers and a scaled tanh.
``VggSmall`` keeps the idea at 64 pixels on a CPU: plain convolutions with batch norm on a
pixel-unshuffled patch and, at full resolution, on the eyes, and the same head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.eyes import CELLS, eye_crops, side_by_side
from regaze.estimators.xgaze import VIEW, normalised

_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FEATURES = 5


class _VggHead(GazeHeadEstimator):
    """Shared tail: mean over the last map, ``FC1``-``FC3`` with LeakyReLU 0.2, (pi/2) tanh."""

    arch = "vgg"

    def _build_head(self, channels: int, hidden: int) -> None:
        self.FC1 = nn.Linear(channels, hidden)
        self.FC2 = nn.Linear(hidden, hidden)
        self.FC3 = nn.Linear(hidden, 4)
        for layer in (self.FC1, self.FC2, self.FC3):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.embedding_size = hidden

    def _maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        raise TypeError(f"{type(self).__name__} does not define _maps")

    def _pool(self, images: Tensor, last: Tensor) -> Tensor:
        return last.mean(dim=(2, 3))

    def _embed_map(self, images: Tensor, last: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.FC1(self._pool(images, last)), 0.2)
        return F.leaky_relu(self.FC2(hidden), 0.2)

    def embed(self, images: Tensor) -> Tensor:
        return self._embed_map(images, self._maps(images)[0])

    def head(self, embedding: Tensor) -> Tensor:
        return (math.pi / 2) * torch.tanh(self.FC3(embedding))

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return ((B,4) angles in radians, five (B,L) feature tensors) from one pass.

        The features are the outputs after the ReLU of the first five convolutions, each flattened
        in C,H,W order. Upstream collects the values before the ReLU, but its in-place ReLU
        overwrites them, so these are what enters the published losses.
        """
        last, maps = self._maps(images)
        features = tuple(feature.flatten(1) for feature in maps)
        return self.head(self._embed_map(images, last)), features


class VggReference(_VggHead):
    """GazeHeadNet with its published state-dict keys ``vgg16.<idx>`` and ``FC1``..``FC3``."""

    preset = "reference"

    def __init__(self, size_px: int = 128, preprocess: str = "equalise"):
        super().__init__()
        self.size_px, self.preprocess = size_px, preprocess
        layers: list[nn.Module] = []
        channels = 3
        for stage in _VGG16:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                nn.init.kaiming_normal_(layers[-2].weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layers[-2].bias)
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.vgg16 = nn.Sequential(*layers)
        self._build_head(channels, 64)

    def _maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps: list[Tensor] = []
        values = images
        for layer in self.vgg16:
            values = layer(values)
            if isinstance(layer, nn.ReLU) and len(maps) < FEATURES:
                maps.append(values)
        return values, maps


class VggXGaze(VggReference):
    """ST-ED's VGG-16 on pictures that are normalised as ImageNet's."""

    preset = "xgaze"

    def __init__(self, size_px: int = VIEW["patch_size"][0], preprocess: str = "none"):
        super().__init__(size_px, preprocess)

    def _maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        return super()._maps(normalised(images))


class VggSmall(_VggHead):
    """Plain convolutions on a pixel-unshuffled patch, and on the eyes.

    ``size_px`` is a multiple of 16. ``widths`` are the channels of the stages, two 3x3 convolutions
    each at 1/2, 1/4, 1/8 ... of the patch; ``eye_widths`` those of a second trunk on the eyes at
    1/1, 1/2, ...; ``hidden`` the width of the linear layers. Unlike the published network it has
    batch norm, of the linear layers too, and reads its last maps by position (4x4 of the face, 4x5
    of each eye) instead of by their mean, because a few hundred steps have to do and where the iris
    sits is the answer. Without the second trunk it hardly learns the gaze's pitch: a look up by ten
    degrees moves the iris by less than a pixel of 64, which the face's poolings let go.
    """

    def __init__(
        self,
        size_px: int = 64,
        preprocess: str = "none",
        *,
        preset: str = "small",
        widths: tuple[int, ...] = (24, 56, 112, 144),
        eye_widths: tuple[int, ...] = (24, 48, 64),
        hidden: int = 96,
    ):
        super().__init__()
        divisor = 2 ** len(widths)
        if size_px % divisor:
            raise ValueError(
                f"size_px: expected a multiple of {divisor} for the {preset} vgg, found {size_px}"
            )
        self.preset, self.size_px, self.preprocess = preset, size_px, preprocess
        self.convolutions, self.norms = _stages(12, widths)
        self.eye_convolutions, self.eye_norms = _stages(3, eye_widths)
        cells = CELLS[0] * CELLS[1]
        self._build_head(16 * widths[-1] + 2 * cells * eye_widths[-1], hidden)
        self.hidden_norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(2))
        # A start near zero degrees: the labels are small angles and tanh would saturate.
        nn.init.normal_(self.FC3.weight, std=0.01)

    def _pool(self, images: Tensor, last: Tensor) -> Tensor:
        *_, eyes = _outputs(eye_crops(images), self.eye_convolutions, self.eye_norms)
        face = F.adaptive_avg_pool2d(last, (4, 4)).flatten(1)
        return torch.cat([face, side_by_side(eyes)], 1)

    def _embed_map(self, images: Tensor, last: Tensor) -> Tensor:
        first, second = self.hidden_norms
        hidden = F.leaky_relu(first(self.FC1(self._pool(images, last))), 0.2)
        return F.leaky_relu(second(self.FC2(hidden)), 0.2)

    def _maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = list(_outputs(F.pixel_unshuffle(images, 2), self.convolutions, self.norms))
        return maps[-1], maps[:FEATURES]


def _stages(channels: int, widths: tuple[int, ...]) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Two 3x3 convolutions per width, and their norms."""
    convolutions, norms = nn.ModuleList(), nn.ModuleList()
    for width in widths:
        for _ in range(2):
            convolutions.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            nn.init.kaiming_normal_(convolutions[-1].weight, nonlinearity="relu")
            norms.append(nn.BatchNorm2d(width))
            channels = width
    return convolutions, norms


def _outputs(values: Tensor, convolutions: nn.ModuleList, norms: nn.ModuleList) -> Iterator[Tensor]:
    """The maps after each convolution of :func:`_stages`, halved between stages."""
    # Channels last is half as fast again on CPUs with bfloat16.
    values = values.contiguous(memory_format=torch.channels_last)
    for index, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        if index and index % 2 == 0:
            values = F.max_pool2d(values, 2)
        values = F.relu(norm(convolution(values)))
        yield values
