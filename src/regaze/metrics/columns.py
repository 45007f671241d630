"""Columns of ``per_pair.parquet``, and metrics by factor."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.factors import FACTORS, Factor, factors_named
from regaze.metrics import optional
from regaze.metrics.similarity import SIMILARITY
from regaze.outputs import replacing


def errors_by_factor(factors: Mapping[str, Factor] = FACTORS) -> dict[str, str]:
    """Metrics that are read from the redirected picture, by factor."""
    return {name: factor.column("error") for name, factor in factors.items()}


def both_by_factor(factors: Mapping[str, Factor] = FACTORS) -> dict[str, str]:
    """Differences between the readings of the redirected and of the true picture, by factor.

    These are GazeNeRF's errors. On ``gaze_only`` pairs that of the head is what the change of gaze
    induced, on ``head_only`` pairs that of the gaze what the turn of the head induced.
    """
    return {name: factor.column("vs_truth") for name, factor in factors.items()}


def columns(factors: Mapping[str, Factor] = FACTORS) -> pa.Schema:
    """Columns of ``per_pair.parquet``.

    ``angle_deg`` and ``head_angle_deg`` say how far gaze and head were to turn (degrees),
    ``read_*`` what the estimator reads (radians); null where undefined.
    """
    named = [
        *(factor.moved for factor in factors.values()),
        *(*errors_by_factor(factors).values(), *both_by_factor(factors).values()),
        *(*SIMILARITY, *optional.COLUMNS),
        # Codes are long, and stand in the latents.
        *(name for factor in factors.values() if not factor.code for name in factor.readings),
    ]
    return pa.schema(
        [
            ("pair", pa.int64()),
            ("person", pa.string()),
            ("kind", pa.string()),
            ("source_index", pa.int64()),
            ("target_index", pa.int64()),
            *((name, pa.float32()) for name in named),
        ]
    )


def write_per_pair(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write ``per_pair.parquet`` with :func:`columns`; NaN becomes null; atomic."""
    named = {name.removesuffix("_moved") for name in table}
    schema = columns(factors_named(named))
    content = pa.Table.from_pandas(table[schema.names], schema=schema, preserve_index=False)
    # pandas' own metadata names library versions; the bytes should depend on the numbers alone.
    with replacing(path) as part:
        pq.write_table(content.replace_schema_metadata(None), part, compression="zstd")
