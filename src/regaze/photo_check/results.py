"""What a check of photos found, in numbers: tables, JSON and CSV."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from regaze.outputs import replacing, rounded
from regaze.photo_check.check import KINDS, Checked
from regaze.photo_check.measures import slopes, told

IRIS = "iris"
"""What the irises' place is called beside the judges."""
_PARTS = ("pitch", "yaw")


def rows_of(photos: Sequence[Checked]) -> pd.DataFrame:
    """A row per photo, kind and direction; angles in degrees, missing numbers NaN.

    Columns: ``photo, kind, direction, target_*, asked_*`` (change of gaze), per judge
    ``<judge>_*`` (change that it reads) and ``iris_*`` (change that the irises' place tells), each
    with ``pitch`` and ``yaw``; ``identity_distance``, ``eye_sharpness``.
    """
    rows = []
    for photo in photos:
        count = len(photo.readings) // len(KINDS)
        for number, one in enumerate(photo.readings):
            row: dict[str, Any] = {"photo": photo.source, "kind": one.kind}
            row["direction"] = number % count
            angles = {"target": one.target, "asked": one.wanted, **one.gaze, IRIS: one.iris}
            for name, values in angles.items():
                row |= _two(name, np.degrees(values))
            row |= {"identity_distance": one.identity, "eye_sharpness": one.sharpness}
            rows.append(row)
    return pd.DataFrame(rows)


def _two(name: str, values: np.ndarray) -> dict[str, float]:
    return {f"{name}_{part}": float(one) for part, one in zip(_PARTS, values, strict=True)}


def summary(rows: pd.DataFrame, judges: Sequence[str]) -> dict[str, dict]:
    """Per kind: slopes and R2 of every judge and of the irises, identity distance and sharpness.

    ``slope`` and ``r2`` are of lines of one slope with an offset per photo; ``by_photo`` has the
    same of each. Numbers that are unknown are None.
    """
    found = {}
    for kind in KINDS:
        part = rows[rows["kind"] == kind]
        photos = {str(name): one for name, one in part.groupby("photo", sort=False)}
        found[kind] = _measured(part, judges) | {
            "by_photo": {name: _measured(one, judges) for name, one in photos.items()}
        }
    return found


def _measured(rows: pd.DataFrame, judges: Sequence[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in (*judges, IRIS):
        slope, share = slopes(_pair(rows, "asked"), _pair(rows, name), rows["photo"].to_numpy())
        made[name] = {"slope": _plain(slope), "r2": _plain(share)}
        made[name]["unread"] = int(np.isnan(_pair(rows, name)).any(axis=1).sum())
    for name in ("identity_distance", "eye_sharpness"):
        made[name] = _plain([rows[name].mean()])[0]
    return made


def _pair(rows: pd.DataFrame, name: str) -> np.ndarray:
    return rows[[f"{name}_{part}" for part in _PARTS]].to_numpy(float)


def _plain(values: Sequence[float] | np.ndarray) -> list[float | None]:
    return [float(one) if np.isfinite(one) else None for one in values]


def table(found: Mapping[str, Mapping], judges: Sequence[str]) -> Iterator[str]:
    """The summary as lines of a table, photos below both kinds."""
    names = (*judges, IRIS)
    heads = [f"{name}, pitch / yaw (R2)" for name in names]
    yield _line(["", *heads, "identity distance", "eye sharpness"])
    yield _line(["---"] * (len(heads) + 3))
    for kind in KINDS:
        yield _line([kind, *_cells(found[kind], names)])
    for photo in found[KINDS[0]]["by_photo"]:
        for kind in KINDS:
            title = photo if kind == KINDS[0] else f"{photo}, {kind}"
            yield _line([title, *_cells(found[kind]["by_photo"][photo], names)])


def _cells(one: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    cells = [
        told(*(np.array(one[name][key], dtype=float) for key in ("slope", "r2"))) for name in names
    ]
    for key, digits in (("identity_distance", 3), ("eye_sharpness", 2)):
        cells.append("unknown" if one[key] is None else f"{one[key]:.{digits}f}")
    return cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_csv(path: str | os.PathLike, rows: pd.DataFrame) -> None:
    """Write :func:`rows_of` with numbers of six digits, missing ones empty."""
    plain = rows.copy()
    for name in plain.select_dtypes("float").columns:
        plain[name] = [np.nan if pd.isna(one) else rounded(float(one)) for one in plain[name]]
    with replacing(path) as part:
        plain.to_csv(part, index=False, lineterminator="\n")
