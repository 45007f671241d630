"""An encoder that learns beside the generator: pictures to the noise vectors they are drawn of.

Of what a short training lacks: with it classes and gaze are taught picture by picture, not only by
a discriminator (a variational auto-encoder with a gaze, after Bao et al., "CVAE-GAN", ICCV 2017).
Published models have none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WIDTHS = (24, 32, 48, 64, 96, 128)
_FOLLOW, _LEAST = 0.01, 1e-4
_DEEPEST = 4
"""Side of the map that codes are read from."""


class Encoder(nn.Module):
    """Reads where in the space of noise vectors a picture lies.

    Args:
        size: side of the pictures, a power of two from 8.
        style_dim: numbers of a noise vector.
    """

    def __init__(self, size: int, style_dim: int):
        super().__init__()
        layers: list[nn.Module] = []
        width, side = 3, size
        for wider in [*_WIDTHS, *[_WIDTHS[-1]] * 8][: int(math.log2(size / _DEEPEST))]:
            layers += [nn.Conv2d(width, wider, 3, 2, 1), nn.LeakyReLU(0.2)]
            width, side = wider, side // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(width * side * side, 2 * style_dim)
        # One draw for good: codes of a picture are as noisy as those that were learnt with.
        drawn = torch.randn(style_dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", drawn)
        self.register_buffer("centre", torch.zeros(style_dim))
        self.register_buffer("spread", torch.eye(style_dim))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, both (B,D), of pictures (B,3,S,S) in [-1,1]."""
        mean, spread = self.head(self.body(images)).chunk(2, 1)
        return mean, spread.clamp(-10, 10)

    def settled(self, images: Tensor) -> Tensor:
        """Noise vectors (B,D) of pictures, the same at every call."""
        mean, spread = self(images)
        return drawn_of(mean, spread, self.noise.expand_as(mean))

    @torch.no_grad()
    def follow(self, codes: Tensor) -> None:
        """Take noise vectors (B,D) of pictures into the running moments that :meth:`placed` has."""
        # Moments of eight bits of mantissa would not add up.
        with torch.autocast(codes.device.type, enabled=False):
            apart = codes.float() - self.centre
            self.spread.lerp_(apart.T @ apart / len(codes), _FOLLOW)
            self.centre.lerp_(codes.float().mean(0), _FOLLOW)

    def placed(self, noise: Tensor) -> Tensor:
        """Noise (B,D) of unit variance, put where the noise vectors of pictures are.

        A short training does not make these normal, and a generator draws nothing anywhere else
        (Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020).
        """
        some = _LEAST * torch.eye(len(self.centre), device=noise.device)
        return self.centre + noise @ torch.linalg.cholesky(self.spread + some).T


def drawn_of(mean: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
    """Noise vectors of normal distributions, of noise of unit variance."""
    return mean + (spread / 2).exp() * noise


def divergence(mean: Tensor, spread: Tensor) -> Tensor:
    """How far distributions are from the standard normal, in nats, the mean over the batch."""
    return 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1).mean()
