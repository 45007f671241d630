"""The table of rows that did not make it into a data set, and the limit on their number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from regaze.outputs import replacing
from regaze.sources.records import some

SCHEMA = pa.schema(
    [
        ("person", pa.string()),
        ("file_name", pa.string()),
        ("source_index", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
_ROWS_IN, _ROWS_OUT = b"rows_in", b"rows_out"
_PERSONS, _LOST, _LEFT_OUT = b"persons", b"lost", b"left_out"


class TooManyRejected(ValueError):
    """More rows were rejected, or persons lost, than allowed; the message names the reasons."""


@dataclass(frozen=True, order=True)
class Rejection:
    """One rejected row; ``source_index`` is -1 for a person without any row."""

    person: str
    source_index: int
    file_name: str
    reason: str
    detail: str


@dataclass(frozen=True)
class RowCounts:
    """What became of the rows and the persons of a raw data set.

    Attributes:
        rows_in: rows of the raw data set; a person of whom nobody knows how many counts as one.
        rows_out: kept rows.
        persons: persons of the raw data set.
        lost: those without a kept row, with the number of rows they had, None where unknown.
        left_out: persons who were not asked for or are not there, by why.
    """

    rows_in: int
    rows_out: int
    persons: int = 0
    lost: Mapping[str, int | None] = field(default_factory=dict)
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """Rows that were not kept."""
        return self.rows_in - self.rows_out

    @property
    def lost_words(self) -> str:
        """How many persons were lost, and who."""
        rows = sum(rows or 0 for rows in self.lost.values())
        unknown = sum(rows is None for rows in self.lost.values())
        more = f", of {unknown} of them nobody knows how many" if unknown else ""
        return (
            f"{len(self.lost):,} of {self.persons:,} persons were lost with all of their rows "
            f"({rows:,} known{more}): {some(self.lost)}"
        )


def write_rejected(
    path: str | Path,
    rejections: Iterable[Rejection],
    rows_out: int,
    kept: Mapping[str, int] | None = None,
) -> RowCounts:
    """Write the table, sorted by person and row, with the counts as the file's metadata.

    Args:
        path: of the parquet table.
        rejections: the rejected rows.
        rows_out: number of kept rows.
        kept: the same by person, for everybody of the shard.

    Returns:
        The counts.
    """
    ordered = sorted(rejections)
    rows = [astuple(one) for one in ordered]
    person, index, name, reason, detail = zip(*rows, strict=True) if rows else ((),) * 5
    table = pa.table([person, name, index, reason, detail], schema=SCHEMA)
    had = Counter(one.person for one in ordered)
    unknown = {one.person for one in ordered if one.source_index < 0}
    lost = {
        one: None if one in unknown else had[one]
        for one, count in sorted((kept or {}).items())
        if not count
    }
    counts = RowCounts(rows_out + len(rows), rows_out, len(kept or {}), lost)
    _write(path, table, counts)
    return counts


def read_rejected(path: str | Path) -> tuple[pa.Table, RowCounts]:
    """Return a table of :func:`write_rejected` and its counts.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: expected a parquet table, found {error}") from error
    counts = told_counts(table.schema)
    if table.schema.names != SCHEMA.names or counts is None:
        raise ValueError(
            f"{path}: expected a table of rejected rows ({', '.join(SCHEMA.names)}), "
            f"found columns {table.schema.names}"
        )
    return table, counts


def told_counts(schema: pa.Schema) -> RowCounts | None:
    """Return the counts that a table of rejected rows tells beside its rows, else None."""
    told = schema.metadata or {}
    if _ROWS_IN not in told:
        return None
    lost, left_out = (json.loads(told.get(key, b"{}")) for key in (_LOST, _LEFT_OUT))
    rows_in, rows_out, persons = (int(told.get(key, 0)) for key in (_ROWS_IN, _ROWS_OUT, _PERSONS))
    return RowCounts(rows_in, rows_out, persons, lost, left_out)


def gather_rejected(
    paths: Sequence[str | Path],
    counts: Sequence[int] | None,
    out: str | Path,
    max_rejected: float,
    max_lost: float | None = None,
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> RowCounts:
    """Merge the shards' tables into one for the data set and enforce the limits.

    The result does not depend on how persons were dealt to shards.

    Args:
        paths: tables of the shards.
        counts: kept rows of each shard, to be checked against the tables; None trusts them.
        out: the merged table, sorted by person and row.
        max_rejected: greatest allowed fraction of rejected rows, 0 to 1.
        max_lost: greatest allowed fraction of persons without a kept row; default the same.
        left_out: persons who are in no shard, by why, to be told in the table.

    Raises:
        TooManyRejected: a fraction is exceeded, or the data set would be empty.
        ValueError: ``counts`` contradict the tables.
    """
    tables, shards = [SCHEMA.empty_table()], []
    for number, path in enumerate(paths):
        table, found = read_rejected(path)
        if counts is not None and counts[number] != found.rows_out:
            raise ValueError(
                f"{path}: expected {found.rows_out} kept rows in the shard, found {counts[number]}"
            )
        tables.append(table.replace_schema_metadata(None))
        shards.append(found)
    merged = pa.concat_tables(tables).sort_by(
        [("person", "ascending"), ("source_index", "ascending")]
    )
    lost = {person: rows for found in shards for person, rows in found.lost.items()}
    total = RowCounts(
        sum(found.rows_in for found in shards),
        sum(found.rows_out for found in shards),
        sum(found.persons for found in shards),
        dict(sorted(lost.items())),
        dict(left_out or {}),
    )
    most_lost = max_rejected if max_lost is None else max_lost
    many_rows = total.rejected > max_rejected * total.rows_in or total.rows_out == 0
    many_persons = len(total.lost) > most_lost * total.persons
    if many_rows or many_persons:
        lines = [_rejected(total, max_rejected)] if many_rows else []
        lines += [_lost(total, most_lost)] if many_persons else []
        lines += _reasons(merged, None if many_rows else set(total.lost))
        raise TooManyRejected("\n".join(lines))
    _write(out, merged, total)
    return total


def _rejected(total: RowCounts, most: float) -> str:
    return (
        f"{total.rejected} of {total.rows_in} rows were rejected, max_rejected allows {most:.4g} "
        "of them; by reason:"
    )


def _lost(total: RowCounts, most: float) -> str:
    return (
        f"{total.lost_words}; max_lost, by default as max_rejected, allows {most:.4g} of them; "
        "by reason:"
    )


def _reasons(table: pa.Table, persons: set[str] | None) -> list[str]:
    """A line for each of the most frequent reasons, of everybody or of some persons."""
    by_reason: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        if persons is None or row["person"] in persons:
            by_reason.setdefault(row["reason"], []).append(row)
    ranked = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = []
    for reason, rows in ranked[:5]:
        first = rows[0]
        lines.append(
            f"  {reason}: {len(rows)}, first person {first['person']} "
            f"row {first['source_index']} {first['file_name']}: {first['detail']}"
        )
    return lines


def _write(path: str | Path, table: pa.Table, counts: RowCounts) -> None:
    metadata = {
        _ROWS_IN: str(counts.rows_in),
        _ROWS_OUT: str(counts.rows_out),
        _PERSONS: str(counts.persons),
        _LOST: json.dumps(dict(counts.lost)),
        _LEFT_OUT: json.dumps({why: list(names) for why, names in counts.left_out.items()}),
    }
    with replacing(path) as part:
        pq.write_table(
            table.replace_schema_metadata(metadata).combine_chunks(), part, compression="zstd"
        )
