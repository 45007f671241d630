"""The network that the workflow trains where no published recogniser is given."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from regaze.identity.base import FaceRecogniser


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        made = self.norm2(self.conv2(self.prelu(self.norm1(self.conv1(values)))))
        return F.relu(made + self.shortcut(values))


class SmallRecogniser(FaceRecogniser):
    """Residual trunk on the pixel-unshuffled patch, read by position.

    Args:
        size_px: side of the patch, a multiple of 32.
        widths: channels at 1/2, 1/4, ... of the patch.
        embedding_size: length of the vectors.
        drop: dropout before the linear layer, in training only.
    """

    alignment = "patch"

    def __init__(
        self,
        size_px: int = 64,
        widths: tuple[int, ...] = (24, 48, 96, 128),
        embedding_size: int = 128,
        drop: float = 0.3,
        name: str = "small",
    ):
        super().__init__()
        self.name, self.size_px, self.embedding_size = name, size_px, embedding_size
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        strides = [1] + [2] * (len(widths) - 1)
        before = (widths[0], *widths[:-1])
        self.trunk = nn.Sequential(
            *(_Block(*shape) for shape in zip(before, widths, strides, strict=True))
        )
        self.drop = nn.Dropout(drop)
        self.project = nn.Linear(widths[-1] * 16, embedding_size, bias=False)
        self.norm = nn.BatchNorm1d(embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, embedding_size), not normalised, of (B,3,S,S) in [-1,1]."""
        values = F.relu(self.stem_norm(self.stem(F.pixel_unshuffle(images, 2))))
        values = F.adaptive_avg_pool2d(self.trunk(values), 4).flatten(1)
        return self.norm(self.project(self.drop(values)))
