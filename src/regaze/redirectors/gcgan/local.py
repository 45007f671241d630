"""One small generator per class of the face, of which all are drawn in one call.

Every layer of every class is a matrix per picture: styles scale its columns and demodulation its
rows before it meets the map, and the layers of all classes and pictures are then one batched
product. Parameters keep their published names, a module per class and layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.stylegan.ops import FusedLeakyReLU, ModulatedConv2d, upsample

EMBEDDING = 64
"""Numbers in which the gaze is told to a generator, and to discriminators."""
_GAIN, _SLOPE, _EPS = math.sqrt(2), 0.2, 1e-8


class GazeEmbedding(nn.Module):
    """Pitch and yaw (B,2) to numbers (B,64), linear."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(EMBEDDING, 2))
        self.bias = nn.Parameter(torch.zeros(EMBEDDING))

    def forward(self, gaze: Tensor) -> Tensor:
        """Return (B,64) of (B,2) radians."""
        return F.linear(gaze, self.weight / math.sqrt(2), self.bias)


class _Scaled(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.modulation = nn.Parameter(torch.ones(1, inputs, 1, 1))


class ToMap(nn.Module):
    """A 1x1 convolution with a learnt factor per channel: features, depth, colours or classes."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        self.upsample = upsample()
        self.conv = _Scaled(inputs, outputs)

    @property
    def matrix(self) -> Tensor:
        """What a pixel's channels are multiplied by, (outputs, inputs)."""
        scaled = self.conv.modulation * self.conv.weight
        return scaled[..., 0, 0] / math.sqrt(scaled.shape[1])

    def forward(self, values: Tensor) -> Tensor:
        """Return (B,outputs,H,W) of (B,inputs,H,W)."""
        return F.conv2d(values, self.matrix[..., None, None]) + self.bias


class _Layer(nn.Module):
    def __init__(self, channels: int, style: int):
        super().__init__()
        self.conv = ModulatedConv2d(channels, channels, 1, style)
        self.activate = FusedLeakyReLU(channels)


class LocalGenerator(nn.Module):
    """The parameters of one class.

    Args:
        layers, channels: of its perceptron.
        features: channels of what it draws.
        style: numbers of a row of a code.
        gaze: whether it is told the gaze.
        depth: whether it has a pseudo-depth; the background's is 0.
    """

    def __init__(
        self, layers: int, channels: int, features: int, style: int, gaze: bool, depth: bool
    ):
        super().__init__()
        style += EMBEDDING if gaze else 0
        self.linears = nn.ModuleList(_Layer(channels, style) for _ in range(layers))
        self.to_feat = ToMap(channels, features)
        self.to_depth = ToMap(channels, 1) if depth else None
        self.embed = GazeEmbedding() if gaze else None


class LocalGenerators(nn.ModuleList):
    """Generators of all classes, drawn together.

    Args:
        seg_dim: classes.
        gaze_ids: those that are told the gaze.
        base_layers: layers that are not told it.
        depth_layers: layers before the pseudo-depth.
        detach_texture: what is drawn after the depth teaches the layers before nothing.
        options: of :class:`LocalGenerator`: ``layers``, ``channels``, ``features``, ``style``.
    """

    def __init__(
        self,
        seg_dim: int,
        gaze_ids: tuple[int, ...],
        base_layers: int,
        depth_layers: int,
        detach_texture: bool,
        **options,
    ):
        super().__init__(
            LocalGenerator(**options, gaze=number in gaze_ids, depth=number > 0)
            for number in range(seg_dim)
        )
        self.told = tuple(sorted(gaze_ids))
        self.plain = tuple(one for one in range(seg_dim) if one not in self.told)
        self.base_layers, self.depth_layers = base_layers, depth_layers
        self.detach_texture = detach_texture

    def forward(
        self, embedding: Tensor, codes: Tensor, gaze: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Draw all classes.

        Args:
            embedding: (C,P) of P places, shared by all.
            codes: spread, (B, seg_dim layers, D).
            gaze: (B,2) radians; None where no class is told it.

        Returns:
            ``(maps, depths)``: (B,seg_dim,C,P) for :meth:`fused`, and (B,seg_dim,P).
        """
        matrices, biases = self._matrices(codes, gaze)
        layers, count = matrices.shape[:2]
        channels, places = embedding.shape
        matrices = matrices.flatten(1, 2)
        first = biases[0, None].expand(count, -1, -1).reshape(-1, 1)
        values = torch.addmm(first, matrices[0].flatten(0, 1), embedding)
        values = F.leaky_relu_(values.view(-1, channels, places), _SLOPE)
        depths = self._depths(values, count) if self.depth_layers == 1 else None
        for number in range(1, layers):
            if self.detach_texture and number == self.depth_layers:
                values = values.detach()
            bias = biases[number, None].expand(count, -1, -1).reshape(-1, channels, 1)
            # In place: the product needs its factors for the way back, not its result.
            values = F.leaky_relu_(torch.baddbmm(bias, matrices[number], values), _SLOPE)
            if number == self.depth_layers - 1:
                depths = self._depths(values, count)
        return values.view(count, len(self), channels, places), depths

    def fused(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Features (B,F,P), each class' weighted by (B,seg_dim,P).

        They are linear in the maps, so the maps are weighted, which are narrower, and all classes
        are one product.
        """
        matrix = torch.cat([one.to_feat.matrix for one in self], 1)
        bias = torch.cat([one.to_feat.bias[0, :, 0] for one in self], 1)
        weighted = (maps * weights[:, :, None]).flatten(1, 2)
        return torch.matmul(matrix, weighted) + torch.matmul(bias, weights)

    def _depths(self, values: Tensor, count: int) -> Tensor:
        maps = values.view(count, len(self), *values.shape[1:])[:, 1:]
        each = [one.to_depth for one in self if one.to_depth is not None]
        matrix = torch.stack([one.matrix for one in each])
        bias = torch.cat([one.bias[0, :, 0] for one in each])
        found = torch.matmul(matrix, maps)[:, :, 0] + bias
        return F.pad(found, (0, 0, 1, 0))

    def _matrices(self, codes: Tensor, gaze: Tensor | None) -> tuple[Tensor, Tensor]:
        """Modulated matrices (L,B,K,C,C) and biases (L,K,C), the activation's gain in both."""
        layers = len(self[0].linears)
        rows = codes.unflatten(1, (len(self), layers))
        parts = [self._scales(self.plain, rows)] if self.plain else []
        scales = torch.cat([*parts, self._told(rows, gaze)] if self.told else parts)
        order = [*self.plain, *self.told]
        if order != sorted(order):
            scales = scales[[order.index(number) for number in range(len(self))]]
        each = [one.linears[number] for number in range(layers) for one in self]
        weights = torch.cat([one.conv.weight[:, :, :, 0, 0] for one in each])
        biases = torch.stack([one.activate.bias for one in each])
        matrices = (
            weights.unflatten(0, (layers, 1, len(self))) * scales.permute(1, 3, 0, 2)[:, :, :, None]
        )
        spread = (matrices.square().sum(-1, keepdim=True) + _EPS).rsqrt()
        return matrices * (_GAIN * spread), _GAIN * biases.unflatten(0, (layers, len(self)))

    def _told(self, rows: Tensor, gaze: Tensor | None) -> Tensor:
        if gaze is None:
            raise ValueError(f"gaze: expected (B,2) for classes {list(self.told)}, found none")
        told = torch.stack([self[number].embed(gaze.to(rows)) for number in self.told], 1)
        told = told[:, :, None].expand(-1, -1, rows.shape[2] - self.base_layers, -1)
        return self._scales(self.told, rows, F.pad(told, (0, 0, self.base_layers, 0)))

    def _scales(self, classes: tuple[int, ...], rows: Tensor, told: Tensor | None = None) -> Tensor:
        """What styles scale columns by, (K,L,C,B)."""
        styles = rows[:, list(classes)]
        if told is not None:
            styles = torch.cat([styles, told], -1)
        each = [layer.conv for number in classes for layer in self[number].linears]
        weights = torch.stack([one.modulation.weight for one in each])
        biases = torch.stack([one.modulation.bias for one in each])
        # The matrices' own scale leaves with demodulation, but for the small number added there.
        factor = 1 / math.sqrt(weights.shape[1])
        styles = styles.permute(1, 2, 3, 0).flatten(0, 1) * (factor / math.sqrt(weights.shape[2]))
        found = torch.baddbmm(factor * biases[..., None], weights, styles)
        return found.unflatten(0, (len(classes), -1))
