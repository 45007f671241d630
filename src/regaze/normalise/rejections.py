"""The table of rows that did not make it into a data set, and the limit on their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from regaze.jobs import replacing

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


class TooManyRejected(ValueError):
    """More rows were rejected than allowed; the message names the dominating reasons."""


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
    """Rows of the raw data set (``rows_in``), kept rows and rejected rows."""

    rows_in: int
    rows_out: int

    @property
    def rejected(self) -> int:
        """Rows that were not kept."""
        return self.rows_in - self.rows_out


def write_rejected(path: str | Path, rejections: Iterable[Rejection], rows_out: int) -> None:
    """Write the table, sorted by person and row, with the counts as the file's metadata."""
    rows = [astuple(one) for one in sorted(rejections)]
    person, index, name, reason, detail = zip(*rows, strict=True) if rows else ((),) * 5
    table = pa.table([person, name, index, reason, detail], schema=SCHEMA)
    _write(path, table, RowCounts(rows_out + len(rows), rows_out))


def read_rejected(path: str | Path) -> tuple[pa.Table, RowCounts]:
    """Return a table of :func:`write_rejected` and its counts.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: expected a parquet table, found {error}") from error
    metadata = table.schema.metadata or {}
    if table.schema.names != SCHEMA.names or _ROWS_IN not in metadata:
        raise ValueError(
            f"{path}: expected a table of rejected rows ({', '.join(SCHEMA.names)}), "
            f"found columns {table.schema.names}"
        )
    return table, RowCounts(int(metadata[_ROWS_IN]), int(metadata[_ROWS_OUT]))


def gather_rejected(
    paths: Sequence[str | Path],
    counts: Sequence[int] | None,
    out: str | Path,
    max_rejected: float,
) -> RowCounts:
    """Merge the shards' tables into one for the data set and enforce the limit.

    The result does not depend on how persons were dealt to shards.

    Args:
        paths: tables of the shards.
        counts: kept rows of each shard, to be checked against the tables; None trusts them.
        out: the merged table, sorted by person and row.
        max_rejected: greatest allowed fraction of rejected rows, 0 to 1.

    Raises:
        TooManyRejected: the fraction is exceeded, or the data set would be empty.
        ValueError: ``counts`` contradict the tables.
    """
    tables, total_in, total_out = [SCHEMA.empty_table()], 0, 0
    for number, path in enumerate(paths):
        table, found = read_rejected(path)
        if counts is not None and counts[number] != found.rows_out:
            raise ValueError(
                f"{path}: expected {found.rows_out} kept rows in the shard, found {counts[number]}"
            )
        tables.append(table.replace_schema_metadata(None))
        total_in, total_out = total_in + found.rows_in, total_out + found.rows_out
    merged = pa.concat_tables(tables).sort_by(
        [("person", "ascending"), ("source_index", "ascending")]
    )
    total = RowCounts(total_in, total_out)
    if total.rejected > max_rejected * total.rows_in or total.rows_out == 0:
        raise TooManyRejected(_complaint(merged, total, max_rejected))
    _write(out, merged, total)
    return total


def _complaint(table: pa.Table, total: RowCounts, max_rejected: float) -> str:
    by_reason: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        by_reason.setdefault(row["reason"], []).append(row)
    ranked = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = [
        f"{total.rejected} of {total.rows_in} rows were rejected, "
        f"max_rejected allows {max_rejected:.4g} of them; by reason:"
    ]
    for reason, rows in ranked[:5]:
        first = rows[0]
        lines.append(
            f"  {reason}: {len(rows)}, first person {first['person']} "
            f"row {first['source_index']} {first['file_name']}: {first['detail']}"
        )
    return "\n".join(lines)


def _write(path: str | Path, table: pa.Table, counts: RowCounts) -> None:
    metadata = {_ROWS_IN: str(counts.rows_in), _ROWS_OUT: str(counts.rows_out)}
    with replacing(path) as part:
        pq.write_table(
            table.replace_schema_metadata(metadata).combine_chunks(), part, compression="zstd"
        )
