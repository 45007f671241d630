"""Uncertainty of a mean over pictures of few people: bootstrap by person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its uncertainty.

    Attributes:
        mean: over all values.
        standard_error: standard deviation of the resampled means; None for one person.
        low, high: percentile interval of the resampled means; None for one person.
        n: number of values.
        persons: number of people they come from.
    """

    mean: float
    standard_error: float | None
    low: float | None
    high: float | None
    n: int
    persons: int


def bootstrap_mean(
    values: np.ndarray,
    persons: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of ``values`` (n,) and its interval under resampling of whole people.

    Pictures of one person err together, so people, not pictures, are drawn with replacement; a
    drawn person brings all values. ``persons`` (n,) names whom each value belongs to. NaN values
    are left out. The result depends on the values, their persons and ``seed`` only, not on their
    order.

    Raises ValueError when no value is finite.
    """
    values, persons = np.asarray(values, np.float64), np.asarray(persons)
    kept = ~np.isnan(values)
    values, persons = values[kept], persons[kept]
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("values: expected at least one and all finite, found none or infinity")
    names, codes = np.unique(persons, return_inverse=True)
    order = np.lexsort((values, codes))
    sums = np.bincount(codes[order], weights=values[order])
    counts = np.bincount(codes[order]).astype(np.float64)
    mean = float(sums.sum() / counts.sum())
    if len(names) == 1:
        return Interval(mean, None, None, None, len(values), 1)
    generator = np.random.default_rng([seed, len(names)])
    share = np.full(len(names), 1 / len(names))
    drawn = generator.multinomial(len(names), share, size=resamples).astype(np.float64)
    means = (drawn @ sums) / (drawn @ counts)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(
        mean, float(means.std(ddof=1)), float(low), float(high), len(values), len(names)
    )
