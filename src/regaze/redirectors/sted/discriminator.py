"""The patch discriminator (zhengyuf/STED-gaze ``models/discriminator.py``) and its two losses.

Unlike elsewhere, 0 stands for true pictures and 1 for made ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Discriminator(nn.Module):
    """70 x 70 PatchGAN with batch norm; parameter names are the published ones."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 4, 2, 1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * width)
        self.conv4 = nn.Conv2d(4 * width, 8 * width, 4, 1, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(8 * width)
        self.conv5 = nn.Conv2d(8 * width, 1, 4, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B,1,h,w) of pictures (B,3,H,W); (B,1,14,14) at 128 pixels."""
        values = F.leaky_relu(self.conv1(images), 0.2)
        values = F.leaky_relu(self.norm1(self.conv2(values)), 0.2)
        values = F.leaky_relu(self.norm2(self.conv3(values)), 0.2)
        values = F.leaky_relu(self.norm3(self.conv4(values)), 0.2)
        return self.conv5(values)


def discriminator_loss(true: Tensor, made: Tensor) -> Tensor:
    """Mean of the two cross-entropies of logits: true pictures are 0, made ones 1."""
    return (_against(true, 0.0) + _against(made, 1.0)) / 2


def generator_loss(made: Tensor) -> Tensor:
    """Cross-entropy of the logits of made pictures against 0, that of true ones."""
    return _against(made, 0.0)


def _against(logits: Tensor, label: float) -> Tensor:
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
