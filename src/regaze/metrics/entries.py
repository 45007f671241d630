"""Entries of ``metrics.json``: a mean with its interval, or null with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from regaze.factors import FACTORS
from regaze.metrics.bootstrap import bootstrap_mean

ANGLE_EDGES_DEG = (0, 5, 10, 15, 20, 30, 40, 60, 180)
"""Edges of the bins of :func:`by_angle`, degrees."""

STED_BATCH = 32
"""``eval_batch_size`` of ST-ED's published configuration."""


def null(reason: str) -> dict[str, Any]:
    """Return the entry of a metric without a value."""
    return {"mean": None, "standard_error": None, "interval": None, "n": 0, "reason": reason}


def mean_entry(values: np.ndarray, persons: np.ndarray, options: Mapping) -> dict[str, Any]:
    """Return mean, standard error, 95 % interval, n and persons of values (n,), NaN left out.

    ``options`` are ``seed``, ``resamples`` and ``level`` of the bootstrap by person. Raises
    ValueError when all values are NaN.
    """
    result = bootstrap_mean(np.asarray(values), np.asarray(persons, str), **options)
    entry = {
        "mean": result.mean,
        "standard_error": result.standard_error,
        "interval": None if result.low is None else [result.low, result.high],
        "n": result.n,
        "persons": result.persons,
    }
    if result.low is None:
        entry["interval_reason"] = "all pairs are of one person"
    return entry


def column_entry(rows: pd.DataFrame, name: str, options: Mapping, unknown: str) -> dict[str, Any]:
    """Return the entry of a column; null when there are no rows, or, for the reason ``unknown``,
    no value."""
    if not len(rows):
        return null("no pairs of this kind were sampled")
    if rows[name].isna().all():
        return null(unknown)
    return mean_entry(rows[name].to_numpy(), rows["person"].to_numpy(), options)


def by_angle(rows: pd.DataFrame, options: Mapping) -> dict[str, list[dict[str, Any]]]:
    """Return the errors of directions such as the gaze, binned by how far each was to turn.

    Per bin of :data:`ANGLE_EDGES_DEG` that holds pairs: ``low`` and ``high`` (degrees, low
    included) and the entry of :func:`mean_entry` over the errors in degrees.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, factor in FACTORS.items():
        if not factor.directional:
            continue
        error = factor.column("error")
        rows_known = rows[rows[error].notna() & rows[factor.moved].notna()]
        place = np.digitize(rows_known[factor.moved], ANGLE_EDGES_DEG[1:-1])
        found[name] = [
            {
                "low": low,
                "high": high,
                **mean_entry(
                    rows_known[error].to_numpy()[place == number],
                    rows_known["person"].to_numpy()[place == number],
                    options,
                ),
            }
            for number, (low, high) in enumerate(
                zip(ANGLE_EDGES_DEG[:-1], ANGLE_EDGES_DEG[1:], strict=True)
            )
            if (place == number).any()
        ]
    return found


def sted_protocol(rows: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return ST-ED's way of averaging beside the plain one.

    Upstream averages within batches of :data:`STED_BATCH` and then over the batches, so that the
    pictures of a smaller last batch count more. ``columns`` maps ST-ED's names to columns; those
    without any value are left out. Pairs are taken in the order of ``rows``.
    """
    found = {}
    for name, column in columns.items():
        values = rows[column].dropna().to_numpy(np.float64)
        if len(values):
            batches = np.split(values, range(STED_BATCH, len(values), STED_BATCH))
            found[name] = {
                "mean_of_batch_means": float(np.mean([batch.mean() for batch in batches])),
                "mean_of_samples": float(values.mean()),
            }
    return found
