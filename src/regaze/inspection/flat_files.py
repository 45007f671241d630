"""Parquet tables and JSON files: rejected rows, pairs, results per pair, 3-D codes, splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.filetypes import damage
from regaze.inspection.findings import RANGE_COLUMNS, Findings, InspectError, Ranges, Table, some

JSON_BYTES = 1 << 26
"""Largest JSON file that is read; a split of all GazeCapture has some 50 kB."""
_BATCH = 1 << 15
_PARTS = ("train", "val", "test")
_KINDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("pairs", ("pair", "source_gaze", "target_gaze", "kind"), "pairs of an evaluation"),
    ("per_pair", ("pair", "kind", "gaze_error_deg"), "results of one method, pair by pair"),
    ("rejected", ("person", "file_name", "reason"), "rejected rows of a data set"),
    ("latents", ("person", "shape", "expression", "pose"), "3-D face codes"),
)


def parquet(path: Path) -> Findings:
    """Look into a parquet file.

    Raises:
        InspectError: it is damaged.
    """
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            return _table(path, file)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        told = f"expected readable parquet, found damage ({damage(error)})"
        raise InspectError(f"{path}: {told}") from None


def _table(path: Path, file: pq.ParquetFile) -> Findings:
    names = file.schema_arrow.names
    kind, needed, words = next(
        (entry for entry in _KINDS if set(entry[1]) <= set(names)), ("unknown", (), "")
    )
    found = Findings(path, words or "parquet of no kind that is known here", "")
    found.why = "it has the columns " + ", ".join(needed)
    if kind == "unknown":
        found.why = "its columns are those of no table of this workflow"
    found.fact("rows", f"{file.metadata.num_rows:,} in {file.num_row_groups:,} row groups")
    lines = [[field.name, str(field.type)] for field in file.schema_arrow]
    if file.num_row_groups:
        group = file.metadata.row_group(0)
        packed = {
            group.column(n).path_in_schema.split(".")[0]: group.column(n).compression
            for n in range(group.num_columns)
        }
        lines = [[*line, packed.get(line[0], "").lower()] for line in lines]
    else:
        lines = [[*line, ""] for line in lines]
    found.tables.append(Table("Columns", ("column", "type", "compression"), lines))
    metadata = file.schema_arrow.metadata or {}
    told = [
        [key.decode("utf-8", "replace"), value.decode("utf-8", "replace")[:200]]
        for key, value in sorted(metadata.items())
        if key not in (b"ARROW:schema", b"pandas")
    ]
    if told:
        found.tables.append(Table("Metadata", ("key", "value"), told))
    if "person" in names:
        persons: Counter[str] = Counter()
        for batch in _batches(file, ["person"]):
            persons.update(str(value) for value in batch.column(0).to_pylist())
        found.fact("persons", f"{len(persons):,}: {some(sorted(persons), 6)}")
    {"pairs": _pairs, "per_pair": _per_pair, "rejected": _rejected, "latents": _latents}.get(
        kind, lambda *_: None
    )(found, file)
    return found


def _batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    return file.iter_batches(batch_size=_BATCH, columns=columns)


def _pairs(found: Findings, file: pq.ParquetFile) -> None:
    kinds: Counter[str] = Counter()
    without = 0
    vectors = ("source_gaze", "target_gaze", "source_head", "target_head")
    used = [name for name in vectors if name in file.schema_arrow.names]
    ranges = {name: Ranges((f"{name} pitch", f"{name} yaw")) for name in used}
    for batch in _batches(file, ["kind", *used]):
        kinds.update(batch.column("kind").to_pylist())
        for name in used:
            ranges[name].add(_vectors(batch.column(name), 2))
    if "target_index" in file.schema_arrow.names:
        for batch in _batches(file, ["target_index"]):
            without += sum(value == -1 for value in batch.column(0).to_pylist())
        found.fact("pairs without a true image", f"{without:,}")
    _counted(found, "Pairs by kind", "kind", kinds)
    rows = [line for name in used for line in ranges[name].rows(180 / np.pi)]
    found.tables.append(Table("Directions in degrees", RANGE_COLUMNS, rows))


def _per_pair(found: Findings, file: pq.ParquetFile) -> None:
    numeric = [
        field.name
        for field in file.schema_arrow
        if pa.types.is_floating(field.type) and not field.name.startswith("read_")
    ]
    ranges = Ranges(numeric)
    kinds: Counter[str] = Counter()
    for batch in _batches(file, ["kind", *numeric]):
        kinds.update(batch.column("kind").to_pylist())
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in numeric]
        ranges.add(np.stack(columns, 1))
    _counted(found, "Pairs by kind", "kind", kinds)
    found.tables.append(Table("Results", RANGE_COLUMNS, ranges.rows(digits=3)))


def _rejected(found: Findings, file: pq.ParquetFile) -> None:
    reasons: Counter[str] = Counter()
    first: dict[str, str] = {}
    for batch in _batches(file, ["reason", "file_name"]):
        for reason, name in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            reasons[str(reason)] += 1
            first.setdefault(str(reason), str(name))
    lines = [[reason, f"{n:,}", first[reason]] for reason, n in reasons.most_common(20)]
    columns = ("reason", "rows", "for example")
    found.tables.append(Table("Rejected rows by reason", columns, lines))
    told = file.schema_arrow.metadata or {}
    if {b"rows_in", b"rows_out"} <= set(told):
        rows_in, rows_out = int(told[b"rows_in"]), int(told[b"rows_out"])
        share = 100 * (rows_in - rows_out) / max(rows_in, 1)
        found.fact("rejected", f"{rows_in - rows_out:,} of {rows_in:,} rows ({share:.2g} %)")
        if rows_in - rows_out != file.metadata.num_rows:
            found.warn(
                f"the file's counts say {rows_in - rows_out:,} rejected rows, it holds "
                f"{file.metadata.num_rows:,}"
            )


def _latents(found: Findings, file: pq.ParquetFile) -> None:
    schema = file.schema_arrow
    rows = []
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            ranges = Ranges((f"{field.name} ({field.type.list_size})",))
            for batch in _batches(file, [field.name]):
                ranges.add(_vectors(batch.column(0), field.type.list_size).reshape(-1, 1))
            rows += ranges.rows(digits=3)
    found.tables.append(Table("Codes", RANGE_COLUMNS, rows))
    if "detected" in schema.names:
        good = 0
        for batch in _batches(file, ["detected"]):
            good += sum(bool(value) for value in batch.column(0).to_pylist())
        found.fact("detected", f"{good:,} of {file.metadata.num_rows:,}")


def _vectors(column: pa.Array, width: int) -> np.ndarray:
    """Return a list column as (n, width) float64; a null row becomes NaN."""
    rows = [value if value is not None else [np.nan] * width for value in column.to_pylist()]
    return np.array(rows, np.float64).reshape(len(rows), width)


def _counted(found: Findings, title: str, name: str, counts: Counter) -> None:
    lines = [[str(key), f"{count:,}"] for key, count in counts.most_common(30)]
    found.tables.append(Table(title, (name, "rows"), lines))


def json_file(path: Path) -> Findings:
    """Look into a JSON file.

    Raises:
        InspectError: it is too large, or no JSON.
    """
    size = path.stat().st_size
    if size > JSON_BYTES:
        raise InspectError(f"{path}: expected at most {JSON_BYTES} bytes of JSON, found {size}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InspectError(f"{path}: expected JSON, found damage ({error})") from error
    if isinstance(content, dict) and content and all(map(_names, content.values())):
        return _split(path, content)
    found = Findings(path, "JSON of no kind that is known here", "")
    if isinstance(content, list):
        found.why = "it is a list, not an object"
        found.fact("entries", f"{len(content):,}")
        return found
    if "kinds" in content and "bootstrap" in content:
        found.kind, found.why = "metrics of one method", "it has the keys kinds, bootstrap"
    elif {"class", "parameters"} & set(content) and "config" in content:
        found.kind, found.why = "record of a trained model", "it has the key config"
    else:
        found.why = "it is an object, but not one of lists of names"
    lines = [[key, _shape(value)] for key, value in list(content.items())[:60]]
    found.tables.append(Table("Keys", ("key", "value"), lines))
    return found


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _shape(value: object) -> str:
    if isinstance(value, dict):
        return f"object with {some(sorted(map(str, value)), 6)}"
    if isinstance(value, list):
        return f"list of {len(value):,}"
    return json.dumps(value)[:120]


def _split(path: Path, content: dict[str, list[str]]) -> Findings:
    found = Findings(path, "split of a data set", "it is an object of lists of names")
    if "test_person_specific" in content:
        found.kind = "split of ETH-XGaze"
    lines = []
    for name, persons in content.items():
        lines.append([name, f"{len(persons):,}", some(persons, 4)])
        twice = [person for person, count in Counter(persons).items() if count > 1]
        if twice:
            found.warn(f"{name}: listed more than once: {some(twice)}")
    found.tables.append(Table("Lists", ("list", "persons", "first"), lines))
    for number, one in enumerate(_PARTS):
        for other in _PARTS[number + 1 :]:
            both = sorted(set(content.get(one, ())) & set(content.get(other, ())))
            if both:
                found.warn(f"in {one} and in {other}: {some(both)}")
    missing = [name for name in _PARTS if name not in content]
    if missing:
        found.warn(f"no list named {', '.join(missing)}")
    return found
