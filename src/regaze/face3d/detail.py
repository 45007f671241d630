"""DECA's detail decoder: jaw, expression and detail code to a displacement map.

Layers and key names of ``yfeng95/DECA`` decalib/models/decoders.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regaze.face3d.encoders import CODE, DETAIL

SCALE = 0.01
"""Metres per unit of the network's output, which a tanh keeps within one."""

_LATE_EPS = 0.8
"""Of every batch norm but the first: upstream passed the value for another argument."""


class DetailDecoder(nn.Module):
    """Code (B, 181) to displacements along the normal, (B, 1, 256, 256) metres in UV space."""

    def __init__(self):
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(3 + CODE["exp"] + DETAIL, 128 * 8 * 8))
        layers: list[nn.Module] = [nn.BatchNorm2d(128)]
        for before, after in ((128, 128), (128, 64), (64, 64), (64, 32), (32, 16)):
            layers += [
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after, eps=_LATE_EPS),
                nn.LeakyReLU(0.2),
            ]
        self.conv_blocks = nn.Sequential(*layers, nn.Conv2d(16, 1, 3, padding=1), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        """Return the map of latents (B, 181): jaw pose 3, expression 50, detail 128."""
        return SCALE * self.conv_blocks(self.l1(latent).reshape(-1, 128, 8, 8))

    def displacement(self, pose: Tensor, exp: Tensor, detail: Tensor) -> Tensor:
        """Return the map of codes: ``pose`` (B, 6), whose last three are the jaw, ``exp`` (B, 50),
        ``detail`` (B, 128)."""
        return self(torch.cat([pose[:, 3:6], exp, detail], 1))
