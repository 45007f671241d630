"""Parquet tables and JSON files: rejected rows, pairs, results per pair, 3-D codes, splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.filetypes import damage
from regaze.inspection.findings import RANGE_COLUMNS, Findings, InspectError, Ranges
from regaze.sources.records import some

JSON_BYTES = 1 << 26
"""Largest JSON file that is read; a split of all GazeCapture has some 50 kB."""
_PARTS = ("train", "val", "test")
_DIRECTIONS = ("source_gaze", "target_gaze", "source_head", "target_head")


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
    names = set(file.schema_arrow.names)
    found = Findings(path, "parquet of no kind that is known here")
    found.why = "its columns are those of no table of this workflow"
    found.fact("rows", f"{file.metadata.num_rows:,} in {file.num_row_groups:,} row groups")
    packed = {}
    if file.num_row_groups:
        group = file.metadata.row_group(0)
        columns = map(group.column, range(group.num_columns))
        packed = {c.path_in_schema.split(".")[0]: c.compression.lower() for c in columns}
    lines = [(one.name, one.type, packed.get(one.name, "")) for one in file.schema_arrow]
    found.table("Columns", ("column", "type", "compression"), lines)
    told = [
        [key.decode("utf-8", "replace"), value.decode("utf-8", "replace")[:200]]
        for key, value in sorted((file.schema_arrow.metadata or {}).items())
        if key not in (b"ARROW:schema", b"pandas")
    ]
    if told:
        found.table("Metadata", ("key", "value"), told)
    if "person" in names:
        persons = sorted(_count(file, "person"), key=str)
        found.fact("persons", f"{len(persons):,}: {some(persons, 6)}")
    for needed, words, describe in _KINDS:
        if names.issuperset(needed):
            found.kind, found.why = words, "it has the columns " + ", ".join(needed)
            describe(found, file)
            break
    return found


def _batches(file: pq.ParquetFile, *columns: str) -> Iterator[list[pa.Array]]:
    for batch in file.iter_batches(batch_size=1 << 15, columns=list(columns)):
        yield batch.columns


def _count(file: pq.ParquetFile, name: str) -> Counter:
    counts: Counter = Counter()
    for (column,) in _batches(file, name):
        counts.update(column.to_pylist())
    return counts


def _range(file: pq.ParquetFile, name: str, names: list[str], width: int) -> Ranges:
    """Ranges of a column of numbers or of lists of ``width``; null becomes NaN."""
    ranges = Ranges(names)
    for (column,) in _batches(file, name):
        empty = np.nan if pa.types.is_floating(column.type) else [np.nan] * width
        rows = [empty if value is None else value for value in column.to_pylist()]
        ranges.add(np.array(rows, np.float64).reshape(-1, len(names)))
    return ranges


def _kinds(found: Findings, file: pq.ParquetFile) -> None:
    found.table("Pairs by kind", ("kind", "rows"), _count(file, "kind").most_common(30))


def _pairs(found: Findings, file: pq.ParquetFile) -> None:
    names = file.schema_arrow.names
    if "target_index" in names:
        found.fact("pairs without a true image", f"{_count(file, 'target_index')[-1]:,}")
    _kinds(found, file)
    rows = []
    for name in filter(names.__contains__, _DIRECTIONS):
        rows += _range(file, name, [f"{name} pitch", f"{name} yaw"], 2).rows(180 / np.pi)
    found.table("Directions in degrees", RANGE_COLUMNS, rows)


def _per_pair(found: Findings, file: pq.ParquetFile) -> None:
    _kinds(found, file)
    rows = []
    for one in file.schema_arrow:
        if pa.types.is_floating(one.type) and not one.name.startswith("read_"):
            rows += _range(file, one.name, [one.name], 1).rows(digits=3)
    found.table("Results", RANGE_COLUMNS, rows)


def _rejected(found: Findings, file: pq.ParquetFile) -> None:
    reasons: Counter[str] = Counter()
    first: dict[str, str] = {}
    for columns in _batches(file, "reason", "file_name"):
        for reason, name in zip(*(column.to_pylist() for column in columns), strict=True):
            reasons[reason] += 1
            first.setdefault(reason, name)
    lines = [(reason, n, first[reason]) for reason, n in reasons.most_common(20)]
    found.table("Rejected rows by reason", ("reason", "rows", "for example"), lines)
    told = file.schema_arrow.metadata or {}
    if {b"rows_in", b"rows_out"} <= set(told):
        rows_in, lost = int(told[b"rows_in"]), int(told[b"rows_in"]) - int(told[b"rows_out"])
        share = 100 * lost / max(rows_in, 1)
        found.fact("rejected", f"{lost:,} of {rows_in:,} rows ({share:.2g} %)")
        if lost != (held := file.metadata.num_rows):
            found.warn(f"the file's counts say {lost:,} rejected rows, it holds {held:,}")


def _latents(found: Findings, file: pq.ParquetFile) -> None:
    rows = []
    for one in file.schema_arrow:
        if pa.types.is_fixed_size_list(one.type):
            width = one.type.list_size
            rows += _range(file, one.name, [f"{one.name} ({width})"], width).rows(digits=3)
    found.table("Codes", RANGE_COLUMNS, rows)
    if "detected" in file.schema_arrow.names:
        good = _count(file, "detected")[True]
        found.fact("detected", f"{good:,} of {file.metadata.num_rows:,}")


_KINDS = (
    (("pair", "source_gaze", "target_gaze", "kind"), "pairs of an evaluation", _pairs),
    (("pair", "kind", "gaze_error_deg"), "results of one method, pair by pair", _per_pair),
    (("person", "file_name", "reason"), "rejected rows of a data set", _rejected),
    (("person", "shape", "expression", "pose"), "3-D face codes", _latents),
)


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
    found = Findings(path, "JSON of no kind that is known here")
    if isinstance(content, list):
        found.why = "it is a list, not an object"
        found.fact("entries", f"{len(content):,}")
        return found
    if content and all(map(_names, content.values())):
        _split(found, content)
        return found
    if "kinds" in content and "bootstrap" in content:
        found.kind, found.why = "metrics of one method", "it has the keys kinds, bootstrap"
    elif {"class", "parameters"} & set(content) and "config" in content:
        found.kind, found.why = "record of a trained model", "it has the key config"
    else:
        found.why = "it is an object, but not one of lists of names"
    lines = [[key, _shape(value)] for key, value in list(content.items())[:60]]
    found.table("Keys", ("key", "value"), lines)
    return found


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _shape(value: object) -> str:
    if isinstance(value, dict):
        return f"object with {some(sorted(map(str, value)), 6)}"
    return f"list of {len(value):,}" if isinstance(value, list) else json.dumps(value)[:120]


def _split(found: Findings, content: dict[str, list[str]]) -> None:
    found.why = "it is an object of lists of names"
    found.kind = f"split of {'ETH-XGaze' if 'test_person_specific' in content else 'a data set'}"
    for name, persons in content.items():
        if twice := [person for person, count in Counter(persons).items() if count > 1]:
            found.warn(f"{name}: listed more than once: {some(twice, 5)}")
    lines = [(name, len(persons), some(persons, 4)) for name, persons in content.items()]
    found.table("Lists", ("list", "persons", "first"), lines)
    for one, other in combinations(_PARTS, 2):
        if both := sorted(set(content.get(one, ())) & set(content.get(other, ()))):
            found.warn(f"in {one} and in {other}: {some(both, 5)}")
    if missing := [name for name in _PARTS if name not in content]:
        found.warn(f"no list named {', '.join(missing)}")
