"""Along rays: what shaders say of samples, added up.

Samples without density change neither a picture nor a gradient. For gradients, all samples are
therefore shaded once without them, and those with a density a second time, of values that the first
pass has kept: only slopes are computed then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.redirectors.gazenerf.radiance import Kept, Where, wide
from regaze.redirectors.gazenerf.rays import Samples, encoded, finer, sample_weights

CHUNK = 8192
"""Samples at a time where nothing is kept for gradients."""
KEPT = 2**19
"""Numbers of a layer at a time, of all samples, where something is."""
ALIKE = 256
"""What counts of samples are multiples of where layers are in reduced precision on a CPU, which
prepares every product of matrices for its sizes, for longer than it multiplies, and keeps that."""

Shader = Callable[..., list[tuple[Tensor, Tensor | None]]]
"""Encoded points (M,63), where they are, and whether colours are wanted, to densities (M,) and
colours (M,h/2) of every stream; ``kept`` and ``known`` are what it made of them before."""


def chunks(samples: Samples, bands: int, known: Mapping = MappingProxyType({})) -> Iterator[tuple]:
    """First ray, encoded points (M,63) and numbers (M,) of their rays, of one picture.

    Points (M,3) are not encoded of rays of which all that is made of them is known.
    """
    rays, count = samples.points.shape[1:3]
    step = max(1, CHUNK // count)
    for start in range(0, rays, step):
        points = samples.points[0, start : start + step]
        numbers = torch.arange(start, start + len(points), device=points.device)
        points = points.flatten(0, 1)
        if start not in known:
            points = encoded(points, bands)
        yield start, points, numbers.repeat_interleave(count)


def shown(
    shaders: list[Shader], samples: Samples, picture: int, bands: int, trunks: Mapping
) -> list:
    """Colours (R,h/2) added up and weights (R,N) of every stream, of one picture.

    Args:
        shaders: of all pictures.
        samples: of this one.
        picture: its number.
        bands: frequencies of points.
        trunks: by first ray of chunks, what is known of them.
    """
    parts, count, rays = [], samples.lengths.shape[2], samples.lengths.shape[1]
    for start, points, numbers in chunks(samples, bands, trunks):
        where = Where(numbers + picture * rays, picture)
        lengths = samples.lengths[0, start : start + len(points) // count]
        made = []
        for shade in shaders:
            for densities, colours in shade(points, where, True, known=trunks.get(start)):
                weights = sample_weights(densities.view_as(lengths), lengths)
                shaped = wide(colours).unflatten(0, lengths.shape)
                made.append(((weights[:, None] @ shaped)[:, 0], weights))
        parts.append(made)
    return joined(parts)


@dataclass(frozen=True)
class Marched:
    """Rays of several pictures, one after the other.

    Attributes:
        points: (Q,N,3).
        lengths: (Q,N).
        start: number of the first ray.
        pictures, rays: how many pictures there are, and rays of each.
    """

    points: Tensor
    lengths: Tensor
    start: int
    pictures: int
    rays: int

    def where(self, rays: Tensor) -> Where:
        """Of samples of rays (M,), numbered from ``start``."""
        rays = rays + self.start
        if self.pictures == 1:
            return Where(rays, 0)
        shares = F.one_hot(rays // self.rays, self.pictures)
        return Where(rays, shares.to(torch.promote_types(self.points.dtype, torch.float32)))


def learnt(shaders: list[Shader], marched: Marched, bands: int, hidden: int) -> list:
    """Colours (Q,h/2) and weights (Q,N) of every stream, for gradients."""
    points, lengths = marched.points, marched.lengths
    made = []
    step = max(1, KEPT // (hidden * lengths.shape[1]))
    for shade, (filled, some, kept) in zip(
        shaders, _filled(shaders, marched, bands, step), strict=True
    ):
        if points.requires_grad:
            some = encoded(points.flatten(0, 1).index_select(0, filled), bands)
        own = filled // lengths.shape[1]
        for densities, colours in shade(some, marched.where(own), True, kept=kept):
            whole = densities.new_zeros(lengths.numel()).index_copy(0, filled, densities)
            weights = sample_weights(whole.view_as(lengths), lengths)
            with torch.autocast(points.device.type, enabled=False):
                seen = weights.flatten().index_select(0, filled)[:, None] * wide(colours)
                total = seen.new_zeros(len(points), seen.shape[1]).index_add(0, own, seen)
            made.append((total, weights))
    return made


@torch.no_grad()
def _filled(shaders: list[Shader], marched: Marched, bands: int, step: int) -> list[tuple]:
    """Of every shader the numbers (F,) of the samples that have a density in one of its streams.

    And those encoded, with what its layers gave. A few without a density may be among them, see
    :data:`ALIKE`.
    """
    count, last = marched.lengths.shape[1], len(marched.points)
    parts: list[list] = [[] for _ in shaders]
    first = 0
    while first < last:
        picture, ray = divmod(marched.start + first, marched.rays)
        end = min(first + step, first + marched.rays - ray, last)
        points = encoded(marched.points[first:end].flatten(0, 1), bands)
        rays = torch.arange(first, end, device=points.device).repeat_interleave(count)
        where = Where(rays + marched.start, picture)
        for part, shade in zip(parts, shaders, strict=True):
            kept = Kept()
            found = [one > 0 for one, _ in shade(points, where, False, kept=kept)]
            full = torch.stack(found).any(0)
            there = full.nonzero()[:, 0]
            if end == last and _prepares(kept.values[0]):
                short = -(sum(len(one) for one, *_ in part) + len(there)) % ALIKE
                there = torch.cat([there, (~full).nonzero()[:short, 0]])
            part.append((there + first * count, points.index_select(0, there), kept.chosen(there)))
        first = end
    return [_together(part) for part in parts]


def _prepares(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype == torch.bfloat16


def _together(part: list[tuple]) -> tuple[Tensor, Tensor, Kept]:
    numbers, points, layers = zip(*part, strict=True)
    values = [torch.cat(one) for one in zip(*layers, strict=True)]
    return torch.cat(numbers), torch.cat(points), Kept(values)


@torch.no_grad()
def finer_depths(
    shaders: list[Shader], samples: Samples, picture: int, bands: int, count: int
) -> Tensor:
    """Depths (1,R,N+M+1) of one picture with further samples where the densities are."""
    weights, lengths, rays = [], samples.lengths[0], samples.lengths.shape[1]
    for _, points, numbers in chunks(samples, bands):
        own, where = lengths[numbers[:: lengths.shape[1]]], Where(numbers + picture * rays, picture)
        found = [one for shade in shaders for one, _ in shade(points, where, False)]
        weights.append(sum(sample_weights(one.view_as(own), own) for one in found))
    draws = torch.linspace(0, 1, count + 1).to(lengths)
    return finer(samples.depths, torch.cat(weights)[None], draws)


def joined(parts: list) -> list:
    """Streams of all chunks of rays together."""
    return [
        tuple(torch.cat(values) for values in zip(*stream, strict=True))
        for stream in zip(*parts, strict=True)
    ]
