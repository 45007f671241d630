"""Latents: the 3-D face codes of a faces file, as parquet shards.

One row per row of the faces file, in its order: ``person``, ``index`` (row inside the person's
group), ``detected`` and the codes of :data:`CODES` as float32 lists of fixed length. The file's
metadata says what they were computed with: the encoder's name, SHA-256 of its checkpoint and of
the head model, and the version of the layout of codes. Codes mean nothing to a network that was
trained with those of another encoder or head model, so readers are told which they expect.

Rows in which no face was found have ``detected`` false and codes of zero.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.codes import CODES as CODES
from regaze.codes import SHORT as SHORT
from regaze.faces import FacesReader
from regaze.filetypes import damage, unreadable
from regaze.outputs import REMEDY, replacing, several

LAYOUT = 1
"""Version of the columns and of what they mean."""

IDENTITY = ("encoder", "checkpoint_sha256", "head_sha256")
"""Metadata that says what codes were computed with."""

ROWS_PER_GROUP = 256
"""Rows that are stored, and decoded, together: what a single row costs to read."""

_KEYS = ("person", "index", "detected")


class LatentsError(ValueError):
    """Latents that cannot be used; the message names the file and what was expected."""


def schema(identity: Mapping[str, str] | None = None) -> pa.Schema:
    """Columns of a shard, with the metadata of ``identity``."""
    columns = [
        pa.field("person", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        *(
            pa.field(name, pa.list_(pa.field("item", pa.float32(), nullable=False), width), False)
            for name, width in CODES.items()
        ),
        pa.field("detected", pa.bool_(), nullable=False),
    ]
    return pa.schema(columns, None if identity is None else _metadata(identity))


def _metadata(identity: Mapping[str, str]) -> dict[str, str]:
    missing = [name for name in IDENTITY if not isinstance(identity.get(name), str)]
    if missing:
        raise LatentsError(f"identity of the encoder: lacks {', '.join(missing)}")
    return {**{name: identity[name] for name in IDENTITY}, "layout": str(LAYOUT)}


class LatentsWriter:
    """Write one shard; it appears under its name only when the block ends without error.

    The same rows give the same bytes, in however many pieces they are added.

    Args:
        path: the parquet file.
        identity: the texts of :data:`IDENTITY`.

    Raises:
        LatentsError: ``identity`` lacks one of them.
    """

    def __init__(self, path: str | os.PathLike, identity: Mapping[str, str]):
        self.path, self.schema = Path(path), schema(identity)
        self._pieces: list[pa.Table] = []
        self._waiting = 0

    def __enter__(self) -> LatentsWriter:
        with ExitStack() as stack:
            part = stack.enter_context(replacing(self.path))
            self._file = stack.enter_context(
                pq.ParquetWriter(part, self.schema, compression="zstd", use_dictionary=["person"])
            )
            stack.push(self._finish)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._open.__exit__(*error)

    def _finish(self, kind, *_) -> None:
        if kind is None and self._waiting:
            self._write(self._waiting)

    def add(
        self,
        persons: Sequence[str],
        indices: np.ndarray,
        codes: Mapping[str, np.ndarray],
        detected: np.ndarray,
    ) -> None:
        """Add n rows.

        Args:
            persons: n names.
            indices: (n,) rows inside the persons' groups.
            codes: (n, length) arrays, or of as many numbers per row, under the names of
                :data:`CODES` or :data:`SHORT`. Rows that are not detected are written as zeros,
                whatever stands there.
            detected: (n,) bool.

        Raises:
            LatentsError: a code is missing, has another shape, or is not finite in a detected row.
        """
        detected = np.asarray(detected, bool)
        count = len(detected)
        arrays = [pa.array(list(persons), pa.string()), pa.array(np.asarray(indices, np.int32))]
        given = {SHORT.get(name, name): value for name, value in codes.items()}
        for name, width in CODES.items():
            if name not in given:
                raise LatentsError(f"{self.path}: codes lack {name}")
            values = np.asarray(given[name], np.float32)
            if values.shape[:1] != (count,) or values.size != count * width:
                raise LatentsError(
                    f"{self.path}: {name}: expected ({count}, {width}), found {values.shape}"
                )
            values = np.where(detected[:, None], values.reshape(count, width), np.float32(0))
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
                raise LatentsError(
                    f"{self.path}: {name}: person {persons[row]} row {int(indices[row])}: "
                    "expected finite numbers, found NaN or infinity"
                )
            kind = self.schema.field(name).type
            arrays.append(
                pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
            )
        arrays.append(pa.array(detected))
        self._pieces.append(pa.Table.from_arrays(arrays, schema=self.schema))
        self._waiting += count
        if self._waiting >= ROWS_PER_GROUP:
            self._write(self._waiting - self._waiting % ROWS_PER_GROUP)

    def _write(self, count: int) -> None:
        """Write the first ``count`` waiting rows; where groups end depends on row numbers only."""
        table = pa.concat_tables(self._pieces).combine_chunks()
        self._file.write_table(table.slice(0, count), row_group_size=ROWS_PER_GROUP)
        # a copy, so that the written rows are let go
        rest = table.slice(count).take(np.arange(table.num_rows - count))
        self._pieces, self._waiting = [rest], rest.num_rows


class LatentsReader:
    """Latents of a data set, joined to the rows of its faces by (person, index).

    Keys are held in memory (13 bytes per row); codes are read on demand, a group of rows at
    a time. No file stays open.

    Args:
        paths: the shards, or one file.
        faces: the faces that the latents belong to; rows are then numbered as there. Without
            them rows are ordered by person, then by index.
        expect: metadata that must be the file's: some of :data:`IDENTITY`, as the model's folder
            recorded them; None accepts any encoder, if it is one and the same.
        columns: the codes that are wanted, names of :data:`CODES`; all of them by default.

    Attributes:
        identity: metadata of the files.
        persons: sorted names.
        detected: (N,) bool.

    Raises:
        FileNotFoundError: a path does not exist.
        LatentsError: a file is not parquet or has other columns; metadata are missing, differ
            between files or from ``expect``; a person is in two files, or has rows twice, with
            gaps or in another order; the rows of a person are not those of ``faces``.
    """

    def __init__(
        self,
        paths: str | os.PathLike | Sequence[str | os.PathLike],
        faces: FacesReader | None = None,
        *,
        expect: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
    ):
        self.paths = [str(path) for path in several(paths)]
        if not self.paths:
            raise LatentsError("latents: expected at least one file, found none")
        self.columns = tuple(CODES if columns is None else columns)
        unknown = [name for name in self.columns if name not in CODES]
        if unknown:
            raise LatentsError(
                f"latents: columns: expected some of {', '.join(CODES)}, found {unknown[0]!r}"
            )
        self.identity: dict[str, str] = {}
        homes: dict[str, tuple[int, int, np.ndarray]] = {}
        self._ends: list[np.ndarray] = []
        for number, path in enumerate(self.paths):
            self._scan(number, path, expect, homes)
        self.persons = sorted(homes)
        counts = {person: len(homes[person][2]) for person in self.persons}
        order = self.persons
        if faces is not None:
            self._compare(counts, faces)
            order = [person for person in faces.persons if faces.count(person)]
        rows = [counts[person] for person in order]
        self._file_of = np.repeat(np.array([homes[p][0] for p in order], np.int32), rows)
        spans = [homes[p][1] + np.arange(counts[p], dtype=np.int64) for p in order]
        self._row_of = np.concatenate([np.zeros(0, np.int64), *spans])
        self.detected = np.concatenate([np.zeros(0, bool), *(homes[p][2] for p in order)])
        starts = np.cumsum([0, *rows])[:-1]
        self._start = dict(zip(order, starts.tolist(), strict=True))
        self._count = counts

    def __len__(self) -> int:
        return len(self.detected)

    def row(self, person: str, index: int) -> int:
        """Number of the row of (person, index), as :meth:`read` takes it.

        Raises:
            KeyError: there is no such row.
        """
        if not 0 <= index < self._count.get(person, 0):
            raise KeyError(f"{self.paths}: no row {index} of person {person!r}")
        return self._start[person] + index

    def read(self, rows) -> dict[str, np.ndarray]:
        """Codes of rows, float32 (n, length) by column, in the order asked for.

        Raises:
            LatentsError: a code is not finite.
            OSError: a file cannot be read any more.
        """
        rows = np.atleast_1d(np.asarray(rows, np.int64))
        out = {name: np.empty((len(rows), CODES[name]), np.float32) for name in self.columns}
        files, places = self._file_of[rows], self._row_of[rows]
        for number in np.unique(files).tolist():
            mine, ends = np.flatnonzero(files == number), self._ends[number]
            groups = np.searchsorted(ends, places[mine], "right")
            with _open(self.paths[number]) as file:
                # each group is decoded once per call, wherever its rows stand in it
                for group in np.unique(groups).tolist():
                    here, first = mine[groups == group], int(ends[group - 1]) if group else 0
                    values = self._group(file, self.paths[number], group, first)
                    for name in self.columns:
                        out[name][here] = values[name][places[here] - first]
        return out

    def _scan(self, number: int, path: str, expect, homes) -> None:
        """Read keys and metadata of one file."""
        with _open(path) as file:
            found = file.schema_arrow
            _check_schema(path, found)
            identity = _identity(path, found.metadata or {}, expect)
            if self.identity and identity != self.identity:
                raise LatentsError(
                    f"{path}: expected the encoder of {self.paths[0]} ({_words(self.identity)}), "
                    f"found {_words(identity)}"
                )
            self.identity = identity
            groups = range(file.num_row_groups)
            sizes = [file.metadata.row_group(group).num_rows for group in groups]
            self._ends.append(np.cumsum(sizes, dtype=np.int64))
            keys = file.read(columns=list(_KEYS))
        if any(keys[name].null_count for name in _KEYS):
            raise LatentsError(f"{path}: expected {', '.join(_KEYS)} in every row, found nulls")
        person = keys["person"].combine_chunks().dictionary_encode()
        codes = person.indices.to_numpy(zero_copy_only=False)
        index = keys["index"].to_numpy()
        detected = keys["detected"].to_numpy().astype(bool)
        edges = [*np.flatnonzero(np.diff(codes, prepend=-1)).tolist(), len(codes)]
        for start, stop in pairwise(edges):
            name = person.dictionary[int(codes[start])].as_py()
            if name in homes:
                other = self.paths[homes[name][0]]
                where = "at another place of the file" if other == path else f"in {other}"
                raise LatentsError(f"{path}: person {name} is already {where}")
            wrong = np.flatnonzero(index[start:stop] != np.arange(stop - start))
            if len(wrong):
                at = int(wrong[0])
                raise LatentsError(
                    f"{path}: person {name}: expected rows 0, 1, 2, ... without gaps or repeats, "
                    f"found index {int(index[start + at])} in place of {at}"
                )
            homes[name] = (number, start, detected[start:stop])

    def _compare(self, counts: Mapping[str, int], faces: FacesReader) -> None:
        """Refuse latents that are not those of these faces."""
        wanted = {person: faces.count(person) for person in faces.persons}
        for person in sorted({*counts, *(p for p, count in wanted.items() if count)}):
            found, expected = counts.get(person, 0), wanted.get(person, 0)
            if found != expected:
                raise LatentsError(
                    f"{', '.join(self.paths)}: person {person}: expected {expected} rows as in "
                    f"{', '.join(faces.paths)}, found {found}; make the latents again"
                )

    def _group(self, file: pq.ParquetFile, path: str, group: int, first: int) -> dict:
        """The codes of a row group, which begins with row ``first`` of the file."""
        try:
            table = file.read_row_group(group, columns=list(self.columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise OSError(
                f"{path}: rows {group * ROWS_PER_GROUP} and following cannot be read "
                f"({damage(error)}){REMEDY}"
            ) from None
        found = {}
        for name in self.columns:
            column = table[name].combine_chunks()
            if column.null_count or column.flatten().null_count:
                raise LatentsError(f"{path}: {name}: expected no nulls, found some")
            found[name] = column.flatten().to_numpy().reshape(-1, CODES[name])
            bad = np.flatnonzero(~np.isfinite(found[name]).all(1))
            if len(bad):
                raise LatentsError(
                    f"{path}: {name}: row {first + bad[0]} of the file: expected finite numbers, "
                    "found NaN or infinity"
                )
        return found


def _open(path: str) -> pq.ParquetFile:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such latents file")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        told = unreadable(path, "expected a parquet file of latents", "parquet", error)
        raise LatentsError(f"{told}{REMEDY}") from None


def _check_schema(path: str, found: pa.Schema) -> None:
    for field in schema():
        if field.name not in found.names:
            raise LatentsError(f"{path}: column {field.name!r} is missing")
        kind = found.field(field.name).type
        same = kind == field.type
        if pa.types.is_fixed_size_list(field.type) and pa.types.is_fixed_size_list(kind):
            # whether items may be null makes no difference here
            same = kind.list_size == field.type.list_size and kind.value_type == pa.float32()
        if not same:
            raise LatentsError(
                f"{path}: column {field.name!r}: expected {field.type}, found {kind}"
            )


def _identity(path: str, metadata: Mapping[bytes, bytes], expect) -> dict[str, str]:
    """Check the metadata of one file and return them."""
    plain = {key.decode(): value.decode() for key, value in metadata.items() if key[:5] != b"ARROW"}
    missing = [name for name in (*IDENTITY, "layout") if name not in plain]
    if missing:
        raise LatentsError(f"{path}: expected metadata {', '.join(missing)}, found none")
    if plain["layout"] != str(LAYOUT):
        raise LatentsError(f"{path}: layout: expected {LAYOUT}, found {plain['layout']}")
    for name, wanted in (expect or {}).items():
        if name in IDENTITY and plain[name] != wanted:
            raise LatentsError(
                f"{path}: {name}: expected {wanted}, found {plain[name]}; these codes were made "
                "with another encoder or head model than the one they are wanted for"
            )
    return {name: plain[name] for name in IDENTITY}


def _words(identity: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:12]}" for name, value in identity.items())
