"""Which pictures are redirected to which directions: drawn once, shared by every method.

Four kinds of pairs, always of one person:

- ``free``: any other picture of the person is the target (the rule of ``zhengyuf/STED-gaze``);
- ``gaze_only``: a picture with the same head pose and another gaze;
- ``head_only``: a picture with the same gaze and another head pose;
- ``sweep``: no target picture; the gaze runs along an ellipse, the head stays.

Draw n of a kind depends on (seed, data set, kind, n) alone, so that asking for more pairs keeps
the ones already drawn.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.angles import angular_error
from regaze.faces import FacesReader
from regaze.filetypes import unreadable
from regaze.jobs import REMEDY, replacing

KINDS = ("free", "gaze_only", "head_only", "sweep")
SAME_DEG = 0.05
"""Rendered labels closer than this are the same direction: above float32 rounding, below any
difference between two directions."""

_VECTOR = pa.list_(pa.float32(), 2)
SCHEMA = pa.schema(
    [
        ("pair", pa.int64()),
        ("person", pa.string()),
        ("source_index", pa.int64()),
        ("target_index", pa.int64()),
        ("source_gaze", _VECTOR),
        ("target_gaze", _VECTOR),
        ("source_head", _VECTOR),
        ("target_head", _VECTOR),
        ("kind", pa.string()),
    ]
)


def draw_pairs(
    reader: FacesReader,
    persons: Sequence[str],
    counts: Mapping[str, int],
    *,
    seed: int,
    dataset: str,
    same_deg: float = SAME_DEG,
    sweep_steps: int = 24,
    sweep_yaw: float = np.deg2rad(20),
    sweep_pitch: float = np.deg2rad(12),
) -> pd.DataFrame:
    """Draw the evaluation pairs.

    Args:
        reader: the faces of the data set.
        persons: whom to draw from, normally the test split.
        counts: pairs per kind; for ``sweep`` the number of source pictures, each of which gives
            ``sweep_steps`` rows.
        seed: seed of the draw.
        dataset: name of the data set, part of the seed.
        same_deg: labels closer than this many degrees are the same direction; real heads never
            rest, so real photos need more than the default.
        sweep_steps: positions along the ellipse.
        sweep_yaw: its half axis in yaw, radians.
        sweep_pitch: its half axis in pitch, radians.

    Returns:
        One row per pair with the columns of :data:`SCHEMA`, numbered from 0. A kind for which the
        data hold fewer distinct pairs than asked for gives as many as were found.

    Raises:
        ValueError: an unknown kind, nobody among ``persons`` has two pictures, or the data set has
            no gaze labels.
    """
    unknown = sorted(set(counts) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kind of pair {unknown[0]!r}; expected one of {', '.join(KINDS)}")
    if not reader.gaze_known:
        raise ValueError(
            f"{reader.paths[0]}: data set {dataset!r} has no gaze labels: its faces can be "
            "redirected but not evaluated"
        )
    able = [person for person in persons if reader.count(person) >= 2]
    if not able:
        raise ValueError(f"{reader.paths}: none of {len(persons)} persons has two pictures")
    rows: list[dict] = []
    for kind in KINDS:
        wanted, seen = counts.get(kind, 0), set()
        # Distinct pairs are collected by rejection; the bound ends it when the data have fewer.
        for number in range(40 * wanted):
            if len(seen) == wanted:
                break
            entropy = [seed, zlib.crc32(dataset.encode()), zlib.crc32(kind.encode()), number]
            rng = np.random.default_rng(entropy)
            person = able[rng.integers(len(able))]
            source = int(rng.integers(reader.count(person)))
            target = _target(reader, person, source, kind, rng, same_deg)
            if target is None or (person, source, target) in seen:
                continue
            seen.add((person, source, target))
            if kind == "sweep":
                turn = 2 * np.pi * np.arange(sweep_steps) / sweep_steps
                path = np.stack([sweep_pitch * np.sin(turn), sweep_yaw * np.cos(turn)], -1)
                rows += [_row(reader, person, source, -1, kind, gaze) for gaze in path]
            else:
                rows.append(_row(reader, person, source, target, kind))
    table = pd.DataFrame(rows, columns=[name for name in SCHEMA.names if name != "pair"])
    table.insert(0, "pair", np.arange(len(table), dtype=np.int64))
    return table


def _target(reader, person, source, kind, rng, same_deg) -> int | None:
    if kind == "sweep":
        return -1
    labels = reader.labels[reader.rows([person])]
    others = np.arange(len(labels)) != source
    same_gaze = angular_error(labels[:, :2], labels[source, :2]) < same_deg
    same_head = angular_error(labels[:, 2:4], labels[source, 2:4]) < same_deg
    if kind == "gaze_only":
        others &= same_head & ~same_gaze
    elif kind == "head_only":
        others &= same_gaze & ~same_head
    choice = np.flatnonzero(others)
    return int(choice[rng.integers(len(choice))]) if len(choice) else None


def _row(reader, person, source, target, kind, gaze=None) -> dict:
    start = reader.labels[reader.global_index(person, source)]
    end = start if target < 0 else reader.labels[reader.global_index(person, target)]
    return {
        "person": person,
        "source_index": source,
        "target_index": target,
        "source_gaze": start[:2],
        "target_gaze": end[:2] if gaze is None else np.asarray(gaze, np.float32),
        "source_head": start[2:4],
        "target_head": end[2:4],
        "kind": kind,
    }


def write_pairs(path: str | Path, pairs: pd.DataFrame) -> None:
    """Write pairs as parquet with the fixed schema, by atomic replacement."""
    columns = {name: list(pairs[name]) for name in SCHEMA.names}
    table = pa.Table.from_pydict(columns, schema=SCHEMA)
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Read pairs; the four direction columns hold float32 arrays of shape (2,).

    Raises:
        ValueError: not parquet, a column is missing or has another type, or a kind is unknown.
    """
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        told = unreadable(path, "not a readable parquet file", "parquet", error)
        raise ValueError(f"{told}{REMEDY}") from None
    for field in SCHEMA:
        if field.name not in table.schema.names:
            raise ValueError(f"{path}: column {field.name!r} is missing")
        found = table.schema.field(field.name).type
        if found != field.type:
            raise ValueError(f"{path}: column {field.name!r}: expected {field.type}, found {found}")
    pairs = table.to_pandas()
    strange = sorted(set(pairs["kind"]) - set(KINDS))
    if strange:
        raise ValueError(f"{path}: unknown kind of pair {strange[0]!r}")
    return pairs
