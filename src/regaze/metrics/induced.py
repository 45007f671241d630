"""Induced errors at rest: their table, their names, and their values per metric.

Of the two protocols of :mod:`regaze.metrics.disentanglement`, which measures them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.factors import FACTORS

CHANGES = {name: factor.column("change") for name, factor in FACTORS.items()}
TURNED = [name for name, factor in FACTORS.items() if factor.turn is not None]
SCHEMA = pa.schema(
    [
        ("sample", pa.int64()),
        ("person", pa.string()),
        ("index", pa.int64()),
        ("protocol", pa.string()),
        ("factor", pa.string()),
        *((name, pa.float32()) for name in CHANGES.values()),
    ]
)
"""``perturbed.parquet``: how far the reading of each factor moved when ``factor`` was turned."""


def _induced(prefix: str) -> dict[str, tuple[str, str]]:
    """Metrics of what turning one factor does to another: both, by the metric's name."""
    return {
        f"{prefix}{one}_to_{FACTORS[other].column('')}": (one, other)
        for one in TURNED
        for other in FACTORS
        if other != one
    }


PROTOCOLS = {"angles": _induced(""), "factors": _induced("factor_")}
OTHERS = {f"others_to_{factor.column('')}": name for name, factor in FACTORS.items()}
"""ST-ED's ``gaze_disentangle`` (u->g) and ``head_disentangle`` (u->h)."""


def read_perturbed(path: str | os.PathLike) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table of a ``perturbed.parquet`` and what was recorded of its making.

    Raises FileNotFoundError, or ValueError for a file with other columns.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected readings of turned factors, found no such file")
    content = pq.read_table(path)
    told = (content.schema.metadata or {}).get(b"perturbed")
    if content.schema.names != SCHEMA.names or told is None:
        raise ValueError(f"{path}: expected columns {SCHEMA.names}, found {content.schema.names}")
    return content.to_pandas(), json.loads(told)


def induced_values(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return per metric a table ``person``, ``value`` (degrees) with a row per picture.

    ``others_to_*`` are means over all of a method's factors that are no row of
    :data:`regaze.factors.FACTORS`, as in ST-ED; they are absent where a method has no such factors,
    and all of ``factors`` where it has none at all.
    """
    found = {}

    def take(name: str, rows: pd.DataFrame, column: str) -> None:
        if len(rows):
            means = rows.groupby("sample").agg(person=("person", "first"), value=(column, "mean"))
            found[name] = means.reset_index(drop=True)

    for protocol, names in PROTOCOLS.items():
        part = table[table["protocol"] == protocol]
        for name, (one, other) in names.items():
            take(name, part[part["factor"] == one], CHANGES[other])
        if protocol == "factors":
            others = part[~part["factor"].isin(list(FACTORS))]
            for name, other in OTHERS.items():
                take(name, others, CHANGES[other])
    return found


INDUCED = (*PROTOCOLS["angles"], *PROTOCOLS["factors"], *OTHERS)
"""All metrics of :func:`induced_values`."""
