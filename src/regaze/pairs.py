"""Which pictures are redirected to which directions: drawn once, shared by every method.

Kinds of pairs are those of :data:`regaze.factors.KINDS`, always of one person:

- ``gaze_and_head``: any other picture of the person is the target (the rule of
  ``zhengyuf/STED-gaze``);
- ``gaze_only``: a picture with the same head pose and another gaze, and so for each factor;
- ``head_only``: a picture with the same gaze and another head pose;
- ``reconstruction``: the source itself, of which nothing changes;
- ``sweep``: no target picture; the gaze runs along an ellipse, the head stays;
- ``gazenerf_paper``: the pairs of a published list, see :mod:`regaze.paper_pairs`.

Draw n of a kind depends on (seed, data set, kind, n) alone, so that asking for more pairs keeps
the ones already drawn.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.albums import evaluated_persons, free_rows, read_albums
from regaze.codes.latents import LatentsReader
from regaze.faces import FacesReader
from regaze.factors import FACTORS, KINDS, Factor, PairKind, current_kind, factors_named, factors_of
from regaze.filetypes import unreadable
from regaze.outputs import REMEDY, replacing
from regaze.paper_pairs import listed_pairs, listed_persons, published_name

log = logging.getLogger(__name__)

SAME_DEG = 0.05
"""Rendered labels closer than this are the same direction: above float32 rounding, below any
difference between two directions."""


def schema(factors: Mapping[str, Factor] = FACTORS) -> pa.Schema:
    """Columns of a table of pairs in which these factors are known."""
    return pa.schema(
        [
            ("pair", pa.int64()),
            ("person", pa.string()),
            ("source_index", pa.int64()),
            ("target_index", pa.int64()),
            *(
                (f"{side}_{name}", pa.list_(pa.float32(), len(factor.parts)))
                for name, factor in factors.items()
                for side in ("source", "target")
            ),
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
    sweep_steps: int | None = None,
    albums: Mapping[str, Sequence[int]] | None = None,
    factors: Mapping[str, Factor] = FACTORS,
    codes: Sequence[str] = (),
) -> pd.DataFrame:
    """Draw the evaluation pairs.

    Args:
        reader: the faces of the data set.
        persons: whom to draw from, normally the test split.
        counts: pairs per kind; for sweeps the number of source pictures, each of which gives
            ``sweep_steps`` rows; of ``gazenerf_paper`` pairs of each person.
        seed: seed of the draw.
        dataset: name of the data set, part of the seed.
        same_deg: labels closer than this many degrees are the same direction; real heads never
            rest, so real photos need more than the default.
        sweep_steps: positions along a dial; None: as many as it has.
        albums: rows by person that are in no pair; where there are any, nobody else is drawn.
        factors: what the table tells of sources and targets.
        codes: latents of the faces, for factors that are read from codes.

    Returns:
        One row per pair with the columns of :func:`schema`, numbered from 0. A kind for which the
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
    free = {
        person: free_rows(reader, person, albums or {})
        for person in evaluated_persons(persons, albums or {})
    }
    able = [person for person, rows in free.items() if len(rows) >= 2]
    if not able:
        raise ValueError(f"{reader.paths}: none of {len(persons)} persons has two pictures")
    people = np.concatenate([reader.rows([person]) for person in able])
    labels = _Labels(reader, factors, codes, people)
    rows: list[dict] = []
    for kind in KINDS.values():
        wanted, seen = counts.get(kind.name, 0), set()
        if kind.listed:
            drawn = _listed(reader, able, free, wanted, seed, dataset)
            rows += [_row(labels, *one, kind) for one in drawn]
            continue
        # Distinct pairs are collected by rejection; the bound ends it when the data have fewer.
        for number in range(40 * wanted):
            if len(seen) == wanted:
                break
            entropy = [seed, zlib.crc32(dataset.encode()), zlib.crc32(kind.seed.encode()), number]
            rng = np.random.default_rng(entropy)
            person = able[rng.integers(len(able))]
            source = int(free[person][rng.integers(len(free[person]))])
            target = _target(labels, person, source, kind, rng, same_deg, free[person])
            if target is None or (person, source, target) in seen:
                continue
            seen.add((person, source, target))
            if kind.swept:
                path = FACTORS[kind.swept].dial.path(sweep_steps)
                rows += [_row(labels, person, source, -1, kind, values) for values in path]
            else:
                rows.append(_row(labels, person, source, target, kind))
    names = schema(factors).names
    table = pd.DataFrame(rows, columns=[name for name in names if name != "pair"])
    table.insert(0, "pair", np.arange(len(table), dtype=np.int64))
    return table


def _listed(
    reader: FacesReader, persons: Sequence[str], free: Mapping[str, np.ndarray], most, seed, dataset
) -> list[tuple[str, int, int]]:
    """Pairs (person, source, target) of the published list, of pictures that are there."""
    if not most:
        return []
    name = published_name(str(reader.attributes.get("source")), reader.persons)
    tested = listed_persons(name, "test", persons)
    numbers = {}
    for person in tested:
        rows = reader.rows([person])
        # Lists are of rows as they were before any was rejected.
        kept = name is not None and reader.has("source_index")
        taken = reader.dataset("source_index", rows).astype(int) if kept else reader.row_of[rows]
        numbers[person] = {int(taken[row]): int(row) for row in free[person]}
    fewest = min(map(len, numbers.values()), default=0)
    listed = listed_pairs(name, fewest, most, seed=seed, dataset=dataset)
    if name is None:
        numbers = {p: dict(enumerate(found.values())) for p, found in numbers.items()}
    found = [
        (person, rows[source], rows[target])
        for person, rows in numbers.items()
        for source, target in listed
        if source in rows and target in rows
    ]
    if len(found) < len(listed) * len(persons):
        told = (dataset, len(found), len(listed) * len(tested), len(persons) - len(tested))
        log.warning(
            "%s: %d of %d listed pairs are there; %d evaluated persons are not in the list", *told
        )
    return found


class _Labels:
    """Labels of the persons who may be drawn; of codes, which are read once."""

    def __init__(self, reader: FacesReader, factors: Mapping[str, Factor], codes, people):
        self.reader, self.factors = reader, factors
        coded = {name: one for name, one in factors.items() if one.code}
        self._place = np.full(len(reader), -1, np.int64)
        self._place[people] = np.arange(len(people))
        self._known = coded_labels(reader, coded, codes, people) if coded else {}

    def of(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Labels (N, parts) of rows of the faces."""
        if name in self._known:
            return self._known[name][self._place[rows]]
        return self.factors[name].labels(self.reader, rows)


def coded_labels(
    reader: FacesReader,
    factors: Mapping[str, Factor],
    codes: Sequence[str],
    rows: np.ndarray,
) -> dict[str, np.ndarray]:
    """Labels (N, parts) of rows by factors that are read from codes, NaN without a face.

    ``codes`` are the latents of the faces. Raises ValueError where they are not.
    """
    latents = LatentsReader(codes, reader, columns=sorted({one.code for one in factors.values()}))
    values = latents.read(rows)
    unseen = ~latents.detected[rows]
    found = {name: one.part(values[one.code]).copy() for name, one in factors.items()}
    for one in found.values():
        one[unseen] = np.nan
    return found


def _target(labels: _Labels, person, source, kind: PairKind, rng, same_deg, free) -> int | None:
    if kind.swept:
        return -1
    if kind.itself:
        return source
    rows = labels.reader.rows([person])
    others = np.isin(np.arange(len(rows)), free[free != source])
    for name in (*kind.keeps, *kind.factors) if kind.keeps else ():
        factor = labels.factors[name]
        values = labels.of(name, rows)
        limit = same_deg if factor.same is None else factor.same
        apart = factor.difference(values, values[source])
        others &= apart < limit if name in kind.keeps else apart >= limit
    choice = np.flatnonzero(others)
    return int(choice[rng.integers(len(choice))]) if len(choice) else None


def _row(labels: _Labels, person, source, target, kind: PairKind, swept=None) -> dict:
    places = [source, source if target < 0 else target]
    rows = np.array([labels.reader.global_index(person, place) for place in places])
    found = {"person": person, "source_index": source, "target_index": target, "kind": kind.name}
    for name in labels.factors:
        found[f"source_{name}"], found[f"target_{name}"] = labels.of(name, rows)
    if swept is not None:
        found[f"target_{kind.swept}"] = np.asarray(swept, np.float32)
    return found


def fix_pairs(
    faces: Sequence[str | Path],
    split: str | Path,
    pairs: str | Path,
    *,
    part: str,
    counts: Mapping[str, int],
    coded: Sequence[str] = (),
    albums: str | Path | None = None,
    **options,
) -> dict[str, int]:
    """Draw the pairs of a part of a split and write them.

    Args:
        faces: shards.
        split: split JSON.
        pairs: parquet to write.
        part: the list of persons who are redirected.
        counts, options: see :func:`draw_pairs`.
        coded: names of the factors that are read from codes.
        albums: albums JSON, whose rows are in no pair; None without.

    Returns:
        How many pairs of each kind there are.
    """
    persons = json.loads(Path(split).read_text(encoding="utf-8"))[part]
    options |= {"albums": read_albums(albums), "factors": factors_named(coded)}
    drawn = draw_pairs(FacesReader(faces), persons, counts, **options)
    write_pairs(pairs, drawn)
    return drawn["kind"].value_counts().to_dict()


def write_pairs(path: str | Path, pairs: pd.DataFrame) -> None:
    """Write pairs as parquet with the schema of their factors, by atomic replacement."""
    fixed = schema(factors_of(pairs.columns))
    columns = {name: list(pairs[name]) for name in fixed.names}
    table = pa.Table.from_pydict(columns, schema=fixed)
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Read pairs; columns of factors hold float32 arrays, (2,) of directions.

    Raises:
        ValueError: not parquet, a column is missing or has another type, or a kind is unknown.
    """
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        told = unreadable(path, "not a readable parquet file", "parquet", error)
        raise ValueError(f"{told}{REMEDY}") from None
    for field in schema(factors_of(table.schema.names)):
        if field.name not in table.schema.names:
            raise ValueError(f"{path}: column {field.name!r} is missing")
        found = table.schema.field(field.name).type
        if found != field.type:
            raise ValueError(f"{path}: column {field.name!r}: expected {field.type}, found {found}")
    pairs = table.to_pandas()
    pairs["kind"] = pairs["kind"].map(current_kind)
    strange = sorted(set(pairs["kind"]) - set(KINDS))
    if strange:
        raise ValueError(f"{path}: unknown kind of pair {strange[0]!r}")
    return pairs
