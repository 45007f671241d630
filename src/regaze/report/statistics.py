"""Intervals of means and of paired differences, by persons, for figures and verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from regaze.metrics.bootstrap import bootstrap_mean


def person_interval(
    values: np.ndarray, persons: Sequence, *, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of finite ``values`` (n,) and the ends of its 95 % interval by persons.

    The ends are NaN for a single person, all three are NaN without a finite value; otherwise it is
    :func:`regaze.metrics.bootstrap.bootstrap_mean`.
    """
    values, persons = np.asarray(values, float), np.asarray(persons, dtype=str)
    finite = np.isfinite(values)
    if not finite.any():
        return np.nan, np.nan, np.nan
    found = bootstrap_mean(values[finite], persons[finite], seed=seed)
    if found.low is None:
        return found.mean, np.nan, np.nan
    return found.mean, found.low, found.high


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, column: str, kind: str, *, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of ``first - second`` over common pairs of a kind, with its 95 % interval.

    Both tables are per-pair results. The interval is by persons; all three are NaN when a table
    lacks the column or no pair is common.
    """
    if column not in first or column not in second:
        return np.nan, np.nan, np.nan
    left = first.loc[first["kind"] == kind, ["pair", "person", column]]
    right = second.loc[second["kind"] == kind, ["pair", column]]
    both = left.merge(right, on="pair", suffixes=("", "_other"), validate="one_to_one")
    values = both[column].to_numpy(float) - both[f"{column}_other"].to_numpy(float)
    return person_interval(values, both["person"], seed=seed)
