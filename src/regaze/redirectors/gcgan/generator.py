"""The generator: codes and a gaze to an eye region with its segmentation.

Shi, Yang, Wan, Shen: "SemanticStyleGAN", CVPR 2022 (``seasonSH/SemanticStyleGAN``), whose
generators of eyes and irises also read the gaze in ``naranjuelo/GC-GAN``. Parameter names are
theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regaze.redirectors.gcgan.layout import Layout
from regaze.redirectors.gcgan.local import LocalGenerators
from regaze.redirectors.gcgan.render import RenderNet
from regaze.stylegan.ops import EqualLinear, PixelNorm


@dataclass(frozen=True)
class Drawn:
    """What is drawn of codes.

    Attributes:
        rgb: (B,3,S,S) pictures, not limited to [-1,1].
        seg: (B,seg_dim,S,S) scores of classes, of about that range; the class is the largest.
        coarse: (B,seg_dim,c,c) shares of classes in [-1,1] that the pictures were composed by.
        depths: (B,seg_dim,c,c) pseudo-depths, the background's 0.
    """

    rgb: Tensor
    seg: Tensor
    coarse: Tensor
    depths: Tensor


class _Position(nn.Module):
    """Places of a grid as sines and cosines, and a random projection of them."""

    def __init__(self, side: int, frequencies: int, channels: int):
        super().__init__()
        line = torch.linspace(-1, 1, side)
        place = torch.stack([line.expand(side, side), line[:, None].expand(side, side)])
        told = [place]
        for number in range(frequencies):
            told += [(2**number * place).sin(), (2**number * place).cos()]
        self.register_buffer("told", torch.cat(told).flatten(1), persistent=False)
        self.weights = nn.Parameter(torch.randn(channels, len(self.told), 1, 1))

    def forward(self) -> Tensor:
        """Return the embedding (C,P)."""
        return self.weights.flatten(1) @ (self.told / math.sqrt(len(self.told)))


def shares_of(
    depths: Tensor, transparent: Sequence[int] = (), composition: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How much of every place is of each class, by the softmax of pseudo-depths.

    Args:
        depths: (B,K,...).
        transparent: classes through which the others are seen; numbers beyond K are ignored, but
            for the rounding that any of them causes in the reference.
        composition: (B,K) of 0 and 1, classes that are drawn at all.

    Returns:
        ``(shares, weights)`` (B,K,...): what the segmentation is of, and what features are
        weighted by.
    """
    shares = depths.softmax(1)
    if composition is not None:
        shares = shares * composition.reshape(*composition.shape, *[1] * (depths.ndim - 2))
        shares = shares / (shares.sum(1, keepdim=True) + 1e-8)
    if not transparent:
        return shares, shares
    clear = shares.new_zeros(shares.shape[1])
    clear[[one for one in transparent if one < len(clear)]] = 1
    clear = clear.view(1, -1, *[1] * (depths.ndim - 2))
    solid = shares * (1 - clear)
    return shares, solid / (solid.sum(1, keepdim=True) + 1e-8) + shares * clear


class SemanticGenerator(nn.Module):
    """Codes and gazes to pictures with segmentations.

    Args:
        size: side of the pictures, a power of two.
        style_dim: numbers of noise vectors and rows of codes.
        n_mlp: layers of the mapping network.
        channel_multiplier: width of the render net above 32 px.
        channel_max: its largest width; published networks have 512.
        seg_dim: classes.
        coarse_size: side of the map that is composed.
        min_feat_size: side at which the render net begins.
        local_layers, local_channel: layers and width of local generators.
        coarse_channel: channels of the composed map.
        base_layers, depth_layers: see :class:`regaze.redirectors.gcgan.layout.Layout`.
        residual_refine, detach_texture: see the render net and the local generators.
        transparent_dims: see :func:`shares_of`.
        gaze_ids: classes whose generators are told the gaze.

    Raises:
        ValueError: sides do not fit each other.
    """

    def __init__(
        self,
        size: int = 256,
        style_dim: int = 512,
        n_mlp: int = 8,
        channel_multiplier: int = 2,
        channel_max: int = 512,
        seg_dim: int = 6,
        coarse_size: int = 64,
        min_feat_size: int = 16,
        local_layers: int = 10,
        local_channel: int = 64,
        coarse_channel: int = 512,
        base_layers: int = 2,
        depth_layers: int = 6,
        residual_refine: bool = True,
        detach_texture: bool = False,
        transparent_dims: Sequence[int] = (10, 12),
        gaze_ids: Sequence[int] = (2, 5),
    ):
        super().__init__()
        check_sides(size, coarse_size, min_feat_size)
        self.size, self.style_dim, self.coarse_size = size, style_dim, coarse_size
        self.layout = Layout(seg_dim, local_layers, base_layers, depth_layers)
        self.transparent = tuple(transparent_dims)
        self.pos_embed = _Position(coarse_size, int(math.log2(size)), local_channel)
        self.local_nets = LocalGenerators(
            seg_dim,
            tuple(gaze_ids),
            base_layers,
            depth_layers,
            detach_texture,
            layers=local_layers,
            channels=local_channel,
            features=coarse_channel,
            style=style_dim,
        )
        widths = (channel_multiplier, channel_max, residual_refine)
        self.render_net = RenderNet(
            size, seg_dim, coarse_size, coarse_channel, min_feat_size, *widths
        )
        mapping = [EqualLinear(style_dim, style_dim, 0.01, activation=True) for _ in range(n_mlp)]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.placed: Callable[[Tensor], Tensor] | None = None

    def mapped(self, noise: Tensor) -> Tensor:
        """Codes (B,D) of noise vectors, which ``placed`` moves first where there is one."""
        return self.style(noise if self.placed is None else self.placed(noise))

    def stored_noise(self) -> list[Tensor]:
        """The maps of noise that belong to the weights; see :meth:`drawn`."""
        return self.render_net.stored_noise()

    @torch.no_grad()
    def mean_code(self, count: int, seed: int = 0) -> Tensor:
        """The mean code (style_dim,) of so many drawn noise vectors."""
        z = torch.randn(count, self.style_dim, generator=torch.Generator().manual_seed(seed))
        return self.mapped(z.to(self.pos_embed.weights)).mean(0)

    def composed(
        self, codes: Tensor, gaze: Tensor | None, composition: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B,F,c,c), shares (B,K,c,c) in [0,1] and depths (B,K,c,c); see :meth:`drawn`."""
        sides = (self.coarse_size, self.coarse_size)
        maps, depths = self.local_nets(self.pos_embed(), self.layout.spread(codes), gaze)
        shares, weights = shares_of(depths, self.transparent, composition)
        features = self.local_nets.fused(maps, weights)
        return tuple(one.unflatten(-1, sides) for one in (features, shares, depths))

    def drawn(
        self,
        codes: Tensor,
        gaze: Tensor | None,
        noise: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        composition: Tensor | None = None,
    ) -> Drawn:
        """Draw codes.

        Args:
            codes: (B,D), (B,rows,D) or spread, see :class:`Layout`.
            gaze: (B,2) radians; None where no class is told it.
            noise: a map (B or 1,1,r,r) per convolution of the render net, such as
                :meth:`stored_noise`; None draws them.
            generator: what they are drawn from.
            composition: (B,seg_dim) of 0 and 1, classes that are drawn at all.

        Raises:
            ValueError: codes have another number of rows, or a gaze is missing.
        """
        if noise is None:
            like = self.stored_noise()
            device = like[0].device if generator is None else generator.device
            noise = [
                torch.randn(len(codes), *one.shape[1:], generator=generator, device=device).to(one)
                for one in like
            ]
        features, shares, depths = self.composed(codes, gaze, composition)
        coarse = 2 * shares - 1
        return Drawn(*self.render_net(features, coarse, noise), coarse, depths)


def check_sides(size: int, coarse_size: int, min_feat_size: int) -> None:
    """Refuse sides that the render net does not get from one to the other by doubling.

    Raises:
        ValueError: with what was expected.
    """
    for name, side in (("size", size), ("coarse_size", coarse_size)):
        ratio = side // min_feat_size
        if side % min_feat_size or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(
                f"{name}: expected min_feat_size {min_feat_size} times 2, 4, 8, ..., found {side}"
            )
    if coarse_size >= size:
        raise ValueError(f"coarse_size: expected less than the side {size}, found {coarse_size}")


def options_of(args: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Options of :class:`SemanticGenerator` among those of an upstream training or a manifest."""
    names = SemanticGenerator.__init__.__annotations__.keys() - {"return"}
    renamed = {"latent": "style_dim"}
    found = {renamed.get(name, name): value for name, value in args.items()}
    return {name: value for name, value in found.items() if name in names} | known
