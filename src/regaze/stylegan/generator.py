"""The generator: a vector of noise to a style, styles layer by layer to a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.stylegan.ops import EqualLinear, PixelNorm, StyledConv, ToRgb


def channels_at(side: int, multiplier: int = 2, most: int = 512) -> int:
    """Channels of a map of this side."""
    return min(most, 16384 * multiplier // side)


def style_count(size: int) -> int:
    """Rows of a W+ code of pictures of this side: 8 at 32, 18 at 1024.

    Raises:
        ValueError: the side is no power of two from 8.
    """
    if size < 8 or size & (size - 1):
        raise ValueError(f"size: expected a power of two from 8, found {size}")
    return 2 * int(math.log2(size)) - 2


def face_pool(images: Tensor, size: int = 256) -> Tensor:
    """Means of pictures (B,3,S,S) at the side that encoders and estimators read."""
    return F.adaptive_avg_pool2d(images, size)


class _Constant(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class Generator(nn.Module):
    """Styles to pictures.

    Args:
        size: side of the pictures, a power of two.
        style_dim: size of noise vectors and styles.
        n_mlp: layers of the mapping network.
        channel_multiplier: width above 32 px.
        width: largest width; published networks have 512.

    Attributes:
        n_latent: rows of a W+ code.
    """

    def __init__(
        self,
        size: int,
        style_dim: int = 512,
        n_mlp: int = 8,
        channel_multiplier: int = 2,
        width: int = 512,
    ):
        super().__init__()
        self.size, self.style_dim, self.n_latent = size, style_dim, style_count(size)
        layers = [EqualLinear(style_dim, style_dim, 0.01, activation=True) for _ in range(n_mlp)]
        self.style = nn.Sequential(PixelNorm(), *layers)
        after = channels_at(4, channel_multiplier, width)
        self.input = _Constant(after)
        self.conv1 = StyledConv(after, after, 3, style_dim)
        self.to_rgb1 = ToRgb(after, style_dim, larger=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        side, sides = 8, [4]
        while side <= size:
            before, after = after, channels_at(side, channel_multiplier, width)
            self.convs.append(StyledConv(before, after, 3, style_dim, "up"))
            self.convs.append(StyledConv(after, after, 3, style_dim))
            self.to_rgbs.append(ToRgb(after, style_dim))
            sides += [side, side]
            side *= 2
        drawn = torch.Generator().manual_seed(0)
        for number, side in enumerate(sides):
            noise = torch.randn(1, 1, side, side, generator=drawn)
            self.noises.register_buffer(f"noise_{number}", noise)

    def stored_noise(self) -> list[Tensor]:
        """The maps (1,1,r,r) of noise that belong to the weights, for every layer."""
        return list(self.noises.buffers())

    def mapping(self, z: Tensor) -> Tensor:
        """Return styles (..., style_dim) of noise vectors (..., style_dim)."""
        return self.style(z.flatten(0, -2)).view_as(z)

    def mean_latent(self, count: int, seed: int = 0) -> Tensor:
        """The mean style (1, style_dim) of so many drawn noise vectors, without gradients."""
        z = torch.randn(count, self.style_dim, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return self.mapping(z.to(self.input.input)).mean(0, keepdim=True)

    def codes(
        self,
        *styles: Tensor,
        inject_index: int | None = None,
        truncation: float = 1.0,
        truncation_latent: Tensor | None = None,
    ) -> Tensor:
        """W+ codes (B, n_latent, style_dim) of styles.

        Args:
            styles: (B, style_dim), or (B, n_latent, style_dim) of each row's own; of two the
                second begins at row ``inject_index``.
            inject_index: from 1 to ``n_latent - 1``.
            truncation: below 1, styles move towards ``truncation_latent`` (1, style_dim).

        Raises:
            ValueError: more than two styles, or two without a row.
        """
        if truncation < 1:
            styles = [truncation_latent.lerp(one, truncation) for one in styles]
        rows = [
            one[:, None].expand(-1, self.n_latent, -1) if one.ndim == 2 else one for one in styles
        ]
        if len(rows) == 1:
            return rows[0]
        if len(rows) != 2 or inject_index is None:
            raise ValueError("styles: expected one, or two and an inject_index")
        return torch.cat([rows[0][:, :inject_index], rows[1][:, inject_index:]], 1)

    def forward(
        self,
        codes: Tensor,
        noise: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return pictures (B,3,size,size), not limited to [-1,1].

        Args:
            codes: (B, n_latent, style_dim), see :meth:`codes`.
            noise: a map (B or 1,1,r,r) per layer, such as :meth:`stored_noise`; None draws them.
            generator: what they are drawn from.
        """
        return self.drawn(codes, noise, generator)[0]

    def drawn(
        self,
        codes: Tensor,
        noise: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`forward`, and the last map of features (B, channels, size, size)."""
        if noise is None:
            noise = [self._fresh(one, len(codes), generator) for one in self.noises.buffers()]
        values = self.input.input.expand(len(codes), -1, -1, -1)
        values = self.conv1(values, codes[:, 0], noise[0])
        image = self.to_rgb1(values, codes[:, 1])
        for block, to_rgb in enumerate(self.to_rgbs):
            row = 1 + 2 * block
            values = self.convs[row - 1](values, codes[:, row], noise[row])
            values = self.convs[row](values, codes[:, row + 1], noise[row + 1])
            image = to_rgb(values, codes[:, row + 2], image)
        return image, values

    @staticmethod
    def _fresh(like: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        device = like.device if generator is None else generator.device
        noise = torch.randn(count, *like.shape[1:], generator=generator, device=device)
        return noise.to(like)
