"""iResNet: the backbone of InsightFace's ArcFace (Deng et al., CVPR 2019).

The layout is that of ``deepinsight/insightface`` (``arcface_torch/backbones/iresnet.py``), which
ReDirTrans' identity loss takes as ``r50_backbone.pth``.
"""

from __future__ import annotations

from torch import Tensor, nn

from regaze.identity.base import FaceRecogniser

_WIDTHS = (64, 128, 256, 512)


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, downsample: bool):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if downsample
            else None
        )

    def forward(self, values: Tensor) -> Tensor:
        kept = values if self.downsample is None else self.downsample(values)
        values = self.prelu(self.bn2(self.conv1(self.bn1(values))))
        return self.bn3(self.conv2(values)) + kept


class IResNet(FaceRecogniser):
    """Residual network on 112 px faces whose features are not normalised.

    Args:
        layers: blocks per stage; (3, 4, 14, 3) is iResNet-50.
        num_features: length of the features.
        dropout: before the linear layer, in training only.
    """

    name, size_px, alignment = "iresnet50", 112, "template"

    def __init__(
        self,
        layers: tuple[int, ...] = (3, 4, 14, 3),
        num_features: int = 512,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.embedding_size = num_features
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        channels = 64
        for number, (width, count) in enumerate(zip(_WIDTHS, layers, strict=True), 1):
            blocks = []
            for index in range(count):
                blocks.append(_Block(channels, width, 1 if index else 2, not index))
                channels = width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * 7 * 7, num_features)
        self.features = nn.BatchNorm1d(num_features)
        # Frozen at one by the published training.
        self.features.weight.requires_grad_(False)

    def stem(self, images: Tensor) -> Tensor:
        """Return (B,64,112,112) of (B,3,112,112) in [-1,1]."""
        return self.prelu(self.bn1(self.conv1(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, num_features) of (B,3,112,112) in [-1,1]."""
        values = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        return self.features(self.fc(self.dropout(self.bn2(values).flatten(1))))
