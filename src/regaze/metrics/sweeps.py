"""How steadily pictures follow a gaze that moves: steps, and what moves with it.

The measures are those of the first system of NeRF gaze redirection (``colincqian/GazeNeRF``): the
error of steps between neighbours of a grid, and what else is displaced per apparent gaze.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from regaze.metrics.entries import mean_entry, null

APPARENT = np.arange(7) / 10
"""Norms of the apparent gaze in radians at which displacements are compared."""
READ = ["read_gaze_pitch", "read_gaze_yaw"]


def step_errors(read: np.ndarray, asked: np.ndarray, axis: int = 0) -> np.ndarray:
    """Norms of the differences between steps that were read and steps that were asked for.

    Args:
        read, asked: (..., 2) pitch and yaw in radians, neighbours along ``axis``.
        axis: one of the leading axes.

    Returns:
        Radians, one fewer along ``axis``.
    """
    return np.linalg.norm(np.diff(np.asarray(read) - np.asarray(asked), axis=axis), axis=-1)


def per_apparent_gaze(apparent: np.ndarray, displaced: np.ndarray) -> float:
    """How much more something is displaced per radian of the apparent gaze.

    Displacements are interpolated at :data:`APPARENT`, and the mean is taken of what they are more
    than at 0, over the norm there; beyond the pictures the nearest one counts.

    Args:
        apparent: (n,) norms of the gaze that is read, radians.
        displaced: (n,) in any unit.
    """
    order = np.argsort(apparent, kind="stable")
    at = np.interp(APPARENT, np.asarray(apparent)[order], np.asarray(displaced)[order])
    return float(((at[1:] - at[0]) / APPARENT[1:]).mean())


def sweep_entries(rows: pd.DataFrame, asked: np.ndarray, options: Mapping) -> dict[str, Any]:
    """What sweeps say of one method.

    Args:
        rows: of ``per_pair.parquet``, of kind ``sweep``, sweep after sweep.
        asked: (n, 2) gazes asked for, radians.
        options: of the bootstrap.

    Returns:
        ``step_error_deg``, the mean of :func:`step_errors`, and ``head_error_per_gaze``, degrees of
        the head's error per degree of the apparent gaze: the mean over sweeps of
        :func:`per_apparent_gaze`.
    """
    if not len(rows):
        reason = "no sweeps were sampled"
        return {"step_error_deg": null(reason), "head_error_per_gaze": null(reason)}
    steps, slopes, of_steps, of_slopes = [], [], [], []
    places = rows.reset_index(drop=True).groupby(["person", "source_index"], sort=False)
    for (person, _), place in places.indices.items():
        run = rows.iloc[place]
        read = run[READ].to_numpy(np.float64)
        found = np.rad2deg(step_errors(read, asked[place]))
        steps.append(found)
        of_steps += [person] * len(found)
        error = np.deg2rad(run["head_error_deg"].to_numpy(np.float64))
        slopes.append(per_apparent_gaze(np.linalg.norm(read, axis=1), error))
        of_slopes.append(person)
    step = null("no sweep has two pictures")
    if of_steps:
        step = mean_entry(np.concatenate(steps), np.array(of_steps), options)
    slope = mean_entry(np.array(slopes), np.array(of_slopes), options)
    return {"step_error_deg": step, "head_error_per_gaze": slope}
