"""The perceptrons of the field: encoded points and codes to densities and features.

Key layouts of ``CrisHY1995/headnerf`` and ``colincqian/GazeNeRF``, whose layers are convolutions of
one pixel over codes that are repeated for every sample. Here they are matrices over points. What
is the same for all points of a picture or a ray is multiplied once and added, and features are
added up along rays before the last layer, which is linear. Neither changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_DEPTH, _SKIP = 8, 5
"""Layers of a trunk, and the one that sees the trunk's input again."""


def affine(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Values (M,i) times a weight (o,i), with a bias (o,) or a row of it for each, (M,o)."""
    if bias.ndim == 1:
        return F.linear(values, weight, bias)
    return torch.addmm(bias, values, weight.t())


def wide(values: Tensor) -> Tensor:
    """Values of at least single precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def matrix(layer: nn.Conv2d) -> Tensor:
    """The weight of a convolution of one pixel, (o,i)."""
    return layer.weight.flatten(1)


class Kept:
    """What layers gave in a pass without gradients, for the samples that gradients go through.

    The first pass writes; what is chosen of it is read, in the same order, by the second one, which
    has gradients and the same values.
    """

    def __init__(self, values: list[Tensor] | None = None):
        self.values, self.reading = values or [], values is not None

    def chosen(self, rows: Tensor) -> list[Tensor]:
        """Those of some samples."""
        return [one.index_select(0, rows) for one in self.values]


class _Known(torch.autograd.Function):
    """:func:`active` of which the result is known."""

    @staticmethod
    def forward(ctx, values, weight, bias, result):
        ctx.save_for_backward(values, weight, result)
        ctx.bias = bias.ndim, bias.dtype
        return result.view_as(result)

    @staticmethod
    def backward(ctx, slope):
        values, weight, result = ctx.saved_tensors
        ndim, dtype = ctx.bias
        slope = torch.ops.aten.threshold_backward(slope, result, 0)
        of_values = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_values = (slope @ weight.to(slope.dtype)).to(values.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = (slope.t() @ values.to(slope.dtype)).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            of_bias = (slope.sum(0) if ndim == 1 else slope).to(dtype)
        return of_values, of_weight, of_bias, None


def active(values: Tensor, weight: Tensor, bias: Tensor, kept: Kept | None = None) -> Tensor:
    """:func:`affine` with what is below 0 set to 0."""
    if kept is not None and kept.reading:
        return _Known.apply(values, weight, bias, kept.values.pop(0))
    result = affine(values, weight, bias).relu_()
    if kept is not None:
        kept.values.append(result)
    return result


@dataclass(frozen=True)
class Where:
    """Which rays and pictures samples are of.

    Attributes:
        rays: (M,) numbers of the rays of all pictures, one picture after the other.
        picture: the one that all are of, or (M,B) with 1 at the picture of each.
    """

    rays: Tensor
    picture: int | Tensor

    def told(self, biases: Tensor) -> Tensor:
        """Biases (h,) or (M,h) of these samples, of those of pictures (B,h) or rays (B,R,h)."""
        if biases.ndim == 3:
            return biases.flatten(0, 1).index_select(0, self.rays)
        if isinstance(self.picture, int):
            return biases[self.picture]
        # A product and not a look-up, the slopes of which are added up row by row.
        return self.picture.to(biases.dtype) @ biases


class Trunk(nn.Module):
    """Eight layers, the sixth of which sees the input again in front of what it is given.

    Args:
        points: numbers of an encoded point; what is told of a picture or a ray stands after them.
        told: numbers of that.
        hidden: width.
        prefix: of the layers' keys.
    """

    def __init__(self, points: int, told: int, hidden: int, prefix: str = ""):
        super().__init__()
        self.points, self.told, self.prefix = points, told, prefix
        for number in range(_DEPTH):
            width = {0: 0, _SKIP: hidden}.get(number, hidden)
            width += points + told if number in (0, _SKIP) else 0
            layer = nn.Conv2d(width, hidden, 1)
            if number:
                nn.init.xavier_uniform_(layer.weight)
            setattr(self, f"{prefix}FeaExt_module_{number}", layer)

    def layer(self, number: int) -> nn.Conv2d:
        """One of the eight."""
        return getattr(self, f"{self.prefix}FeaExt_module_{number}")

    @torch.no_grad()
    def amplify(self, gain: float) -> None:
        """Multiply all weights but biases."""
        for number in range(_DEPTH):
            self.layer(number).weight.mul_(gain)

    def told_biases(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """What is told (...,told), as biases (...,hidden) of the first layer and the sixth."""
        own = slice(self.points, self.points + self.told)
        return tuple(
            F.linear(told, matrix(self.layer(number))[:, own], self.layer(number).bias)
            for number in (0, _SKIP)
        )

    def near(self, points: Tensor, first: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer and the sixth are given of points (M,points) and of biases."""
        return tuple(
            affine(points, matrix(self.layer(number))[:, : self.points], bias)
            for number, bias in ((0, first), (_SKIP, again))
        )

    def trunk(
        self, points: Tensor, first: Tensor, again: Tensor, kept: Kept | None = None
    ) -> Tensor:
        """Features (M,hidden) of encoded points (M,points), with :meth:`told_biases`."""
        if kept is None:
            return self.onwards(*self.near(points, first, again))
        near = [matrix(self.layer(number))[:, : self.points] for number in (0, _SKIP)]
        values = active(points, near[0], first, kept)
        return self._rest(values, affine(points, near[1], again), kept)

    def onwards(self, first: Tensor, again: Tensor) -> Tensor:
        """Features (M,hidden) of what :meth:`near` gives; the first is written over."""
        return self._rest(first.relu_(), again)

    def _rest(self, values: Tensor, again: Tensor, kept: Kept | None = None) -> Tensor:
        for number in range(1, _DEPTH):
            weight, bias = matrix(self.layer(number)), self.layer(number).bias
            if number == _SKIP:
                weight, bias = weight[:, self.points + self.told :], again
            values = active(values, weight, bias, kept)
        return values


@dataclass(frozen=True)
class Told:
    """Codes as biases, a row per picture.

    Attributes:
        first, again: (B,hidden), of the trunk.
        colour: (B,hidden/2), or (B,R,hidden/2) where rays differ.
    """

    first: Tensor
    again: Tensor
    colour: Tensor

    def of(self, row: int | Tensor) -> Told:
        """Those of one picture, or of so many (K,)."""
        return Told(**{one.name: getattr(self, one.name)[row] for one in fields(self)})


class RadianceMLP(Trunk):
    """Densities and features of points.

    Args:
        points: numbers of an encoded point.
        shape: numbers told of the head's form (identity, expression, the gaze).
        appearance: numbers told of its colours (texture, light).
        hidden: width.
        channels: of the features.
        directions: numbers of an encoded direction; 0 leaves them out.
    """

    def __init__(
        self,
        points: int,
        shape: int,
        appearance: int,
        hidden: int,
        channels: int,
        directions: int = 0,
    ):
        super().__init__(points, shape, hidden)
        self.hidden, self.directions = hidden, directions
        self.density_module = nn.Conv2d(hidden, 1, 1)
        self.RGB_layer_0 = nn.Conv2d(hidden, hidden, 1)
        self.RGB_layer_1 = nn.Conv2d(hidden + directions + appearance, hidden // 2, 1)
        self.RGB_layer_2 = nn.Conv2d(hidden // 2, channels, 1)
        for layer in (self.density_module, self.RGB_layer_0):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.density_module.bias)

    def tell(self, shape: Tensor, appearance: Tensor, directions: Tensor | None = None) -> Told:
        """Codes (B,shape), (B,appearance) and encoded directions of rays (B,R,d) as biases."""
        weight = matrix(self.RGB_layer_1)
        start = self.hidden + self.directions
        colour = F.linear(appearance, weight[:, start:], self._colour_bias())
        if self.directions:
            seen = F.linear(directions, weight[:, self.hidden : start])
            colour = colour[:, None] + seen
        return Told(*self.told_biases(shape), colour)

    def _colour_bias(self) -> Tensor:
        inner = matrix(self.RGB_layer_1)[:, : self.hidden]
        return F.linear(self.RGB_layer_0.bias, inner, self.RGB_layer_1.bias)

    def density(self, values: Tensor) -> Tensor:
        """Densities (M,) float32 of the trunk's features (M,hidden)."""
        layer = self.density_module
        return wide(affine(values, matrix(layer), layer.bias)[:, 0]).relu()

    def colour(self, values: Tensor, bias: Tensor) -> Tensor:
        """What features are a linear function of, (M,hidden/2), of the trunk's features.

        The first of the two layers has no activation, so that they are one.
        """
        inner = matrix(self.RGB_layer_1)[:, : self.hidden]
        return affine(values, inner @ matrix(self.RGB_layer_0), bias).relu_()

    def features(self, colours: Tensor, weights: Tensor) -> Tensor:
        """Features (...,channels) of rays: colours (...,hidden/2) and weights (...), added up."""
        layer = self.RGB_layer_2
        return F.linear(colours, matrix(layer)) + weights[..., None] * layer.bias


class GazeBranch(Trunk):
    """What a gaze adds to the features of points (``gaze_layers.*``).

    Args:
        points: numbers of an encoded point; 0 where it is told rays alone.
        rays: numbers told of a ray: share of the eyes, gaze, place in the picture.
        hidden: width.
    """

    def __init__(self, points: int, rays: int, hidden: int):
        super().__init__(points, rays, hidden, "Gaze_")
        # In the published layout, and without a use there or here.
        self.Gaze_RGB_layer_0 = nn.Conv2d(hidden, hidden, 1)
        self.Gaze_RGB_layer_0.requires_grad_(False)
        self.Gaze_RGB_layer_1 = nn.Conv2d(hidden, hidden // 2, 1)

    def forward(self, first: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to the trunk's features (M,hidden), and to colours (M,hidden/2).

        Of what :meth:`near` gives.
        """
        return self.added(self.onwards(first, again))

    def added(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same of its own trunk's features (M,hidden)."""
        layer = self.Gaze_RGB_layer_1
        return values, active(values, matrix(layer), layer.bias)


class RadianceMLPGaze(RadianceMLP):
    """The same with a gaze branch, whose results are added to trunk and colours."""

    def __init__(self, *args, rays: int, near_points: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.gaze_layers = GazeBranch(self.points if near_points else 0, rays, self.hidden)

    def looking(
        self, points: Tensor, rays: Tensor, biases, kept: Kept | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the branch adds at encoded points (M,p) of rays with the numbers (M,).

        Args:
            biases: of the branch, (R,hidden) each; see :meth:`Trunk.told_biases`.
            kept: of the branch.
        """
        branch = self.gaze_layers
        if branch.points:
            return branch.added(branch.trunk(points, *(one[rays] for one in biases), kept))
        # Without points it is the same all along a ray.
        nothing = biases[0].new_empty(len(biases[0]), 0)
        return tuple(one[rays] for one in branch(*branch.near(nothing, *biases)))

    def passed(self, points: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the branch is given of points whatever the gaze; None where it sees none."""
        branch, nothing = self.gaze_layers, points.new_zeros(self.hidden)
        return branch.near(points, nothing, nothing) if branch.points else None

    def looking_again(self, passed, rays: Tensor, biases) -> tuple[Tensor, Tensor]:
        """The same as :meth:`looking` at all samples of neighbouring rays, in their order.

        Args:
            passed: of :meth:`passed`.
            rays: (M,), every ray as often as it has samples.
            biases: see there.
        """
        if passed is None:
            return self.looking(rays, rays, biases)
        first, last = int(rays[0]), int(rays[-1]) + 1
        given = (
            (one.unflatten(0, (last - first, -1)) + bias[first:last, None]).flatten(0, 1)
            for one, bias in zip(passed, biases, strict=True)
        )
        return self.gaze_layers(*given)


def mixed(first, second, share: float):
    """``share`` of the first results of a branch and the rest of the second."""
    return tuple(share * a + (1 - share) * b for a, b in zip(first, second, strict=True))
