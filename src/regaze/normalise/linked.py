"""Faces shards of data sets that were released as patches: labels, and links to the pixels."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from regaze.faces import LABELS, FacesAttributes, FacesWriter
from regaze.filetypes import damage
from regaze.hdf5 import InUse, open_dataset
from regaze.links import PixelLink, Rows, Sources, locate, read_source
from regaze.normalise.pipeline import pixel_buffer, reject_person
from regaze.normalise.rejections import Rejection, RowCounts, write_rejected
from regaze.sources.hdf5 import last_stored, opened, rows_dataset, stored_rows
from regaze.sources.records import NormalisedRows, NormalisedSource, SourceError

log = logging.getLogger(__name__)

_BYTES_IN_MEMORY = 256 << 20
_PITCH, _YAW = (0, 2, 4, 6), (1, 3, 5, 7)
_SLACK = 1e-5
_ROWS_AT_ONCE = 64
_NOT_MAPPED = "a row of a virtual dataset that is mapped to no file, which HDF5 reads as zeros"
_NOT_STORED = "never written, beyond the end of the file, or larger than a patch can be"


def link_shard(
    source: NormalisedSource,
    persons: Sequence[str],
    out_faces: str | Path,
    out_rejected: str | Path,
    *,
    copy: bool = False,
    check_pixels: str = "ends",
) -> RowCounts:
    """Write the two files of a shard, as :func:`regaze.normalise.pipeline.normalise_shard` does.

    ``pixels`` becomes an HDF5 virtual dataset on the released file, with a path relative to the
    shard, so the released pixels are neither copied nor recompressed. Every released row ends in
    one of the files, kept or rejected: ``missing_person``, ``missing_key``, ``bad_shape``,
    ``bad_source``, ``non_finite_label``, ``label_out_of_range`` (a pitch beyond 90 or a yaw beyond
    180 degrees, as of labels that are not in radians), ``unreadable_image``.

    Args:
        source: the opened data set.
        persons: persons of the shard.
        out_faces: the faces HDF5.
        out_rejected: the parquet table of rejected rows.
        copy: copy the pixels instead, for results that have to stand alone; it reads them twice.
        check_pixels: ``ends`` looks in the file's index for rows that were never written or lie
            beyond its end (about 2 microseconds per row) and decodes the first and the last row of
            each person, and every row if one of these fails; ``all`` decodes every row (about 0.1
            ms per row of 128 x 128, 0.6 ms of 448 x 448). ``copy`` implies it.
    """
    rejections: list[Rejection] = []
    kept = dict.fromkeys(persons, 0)
    with FacesWriter(out_faces, source.attributes) as writer:
        for person in sorted(persons):
            names: tuple[str, ...] = ()
            try:
                rows = source.read_faces(person)
                names = rows.file_name or ("",) * len(rows)
                checked = _check(rows, source.attributes, copy or check_pixels == "all")
            except SourceError as error:
                error.file_names = error.file_names or names
                rejections += reject_person(source, person, error)
                continue
            for row, (reason, detail) in checked.problems.items():
                rejections.append(Rejection(person, row, names[row], reason, detail))
            kept[person] = _write(writer, rows, checked, copy)
            log.info("person %s: %d of %d rows kept", person, kept[person], len(rows))
    return write_rejected(out_rejected, rejections, sum(kept.values()), kept)


@dataclass(frozen=True)
class _Checked:
    """Where pixels lie, and reason and detail of what is wrong with a row, by row."""

    place: Rows
    problems: dict[int, tuple[str, str]]


def _check(rows: NormalisedRows, attributes: FacesAttributes, check_all: bool) -> _Checked:
    problems = _label_problems(rows.labels, attributes.gaze == "known")
    place = _find_pixels(rows, attributes.patch_size)
    for here, path, name in place.by_source():
        if not path:
            lost = (row for row in here.tolist() if row not in problems)
            problems |= dict.fromkeys(lost, ("unreadable_image", _NOT_MAPPED))
            continue
        with opened(path) as file:
            data, _ = open_dataset(file, name)
            skip = {number for number, row in enumerate(here.tolist()) if row in problems}
            found = _pixel_problems(data, place.taken(here), check_all, skip)
            problems |= {int(here[number]): told for number, told in found.items()}
    return _Checked(place, problems)


def _write(writer: FacesWriter, rows: NormalisedRows, checked: _Checked, copy: bool) -> int:
    """Write the good rows of one person and return their number."""
    kept = np.array([row for row in range(len(rows)) if row not in checked.problems], np.int64)
    columns = {name: values[kept] for name, values in rows.columns.items()}
    columns.setdefault("source_index", kept)
    if rows.file_name:
        columns["file_name"] = [rows.file_name[row] for row in kept]
    place, labels = checked.place.taken(kept), rows.labels[kept]
    if not copy:
        writer.add_person(rows.person, place, labels, **columns)
    elif len(kept):
        with _copied(place, writer.path.parent) as patches:
            writer.add_person(rows.person, patches, labels, **columns)
    return len(kept)


def _find_pixels(rows: NormalisedRows, size: tuple[int, int]) -> Rows:
    """Return where a person's pixels lie; virtual datasets are followed to their end.

    Raises:
        SourceError: they are not uint8 patches of ``size``, one for every label.
    """
    where = f"{rows.path}: {rows.person}"
    with opened(rows.path) as file:
        data = rows_dataset(where, file, rows.pixels, 3)
        # Beyond the labels there may be room that was never filled.
        used = len(data) if len(data) <= len(rows) else last_stored(data)
        if data.dtype != np.uint8 or (used, *data.shape[1:]) != (len(rows), size[1], size[0], 3):
            raise SourceError(
                f"{where}: {rows.pixels}: expected {(len(rows), size[1], size[0], 3)} uint8, "
                f"found {(used, *data.shape[1:])} {data.dtype}",
                "bad_shape",
                rows.file_name + ("",) * (max(used, len(rows)) - len(rows.file_name)),
            )
        if not data.is_virtual:
            return PixelLink(rows.path, rows.pixels, data.shape, np.arange(len(rows)))
        try:
            with Sources() as files:
                place = locate(data, f"the pixels of person {rows.person}", files)
                return place.taken(np.arange(len(rows)))
        except InUse:
            raise
        except (ValueError, OSError) as error:
            raise SourceError(
                f"{where}: {rows.pixels}: expected a link to rows of other files, found: {error}",
                "bad_shape",
            ) from error


def _label_problems(labels: np.ndarray, gaze_known: bool) -> dict[int, tuple[str, str]]:
    """Return reason and detail of every row whose labels cannot be true."""
    problems: dict[int, tuple[str, str]] = {}
    needed = np.zeros(len(LABELS), bool)
    needed[0 if gaze_known else 2 : 4] = True
    # The other columns may be unknown, but not infinite.
    bad = np.where(needed, ~np.isfinite(labels), np.isinf(labels))
    for row in np.flatnonzero(bad.any(axis=1)).tolist():
        columns = [name for name, wrong in zip(LABELS, bad[row], strict=True) if wrong]
        problems[row] = ("non_finite_label", ", ".join(columns))
    limits = np.empty(len(LABELS))
    limits[list(_PITCH)], limits[list(_YAW)] = np.pi / 2, np.pi
    with np.errstate(invalid="ignore"):
        beyond = np.abs(labels) > limits + _SLACK
    for row in np.flatnonzero(beyond.any(axis=1)).tolist():
        column = int(np.flatnonzero(beyond[row])[0])
        detail = (
            f"{LABELS[column]}: expected at most {limits[column]:.4f} rad, "
            f"found {labels[row, column]:.6g}"
        )
        problems.setdefault(row, ("label_out_of_range", detail))
    return problems


def _pixel_problems(
    data: h5py.Dataset, place: Rows, check_all: bool, skip: set[int]
) -> dict[int, tuple[str, str]]:
    """Return reason and detail of rows whose pixels cannot be read; ``skip`` needs no check.

    Args:
        data: the dataset that all of the rows lie in.
        place: the rows; one picture may be all of the dataset.
        check_all: decode every row, not only the first and the last.
        skip: numbers of rows.
    """
    problems: dict[int, tuple[str, str]] = {}
    stored = stored_rows(data)
    stored = stored.all()[None] if data.shape == place.row_shape else stored
    for number in np.flatnonzero(~stored[place.row]).tolist():
        if number not in skip:
            problems[number] = ("unreadable_image", _NOT_STORED)
    left = [n for n in range(len(place)) if n not in skip and n not in problems]
    chosen = left if check_all else [*left[:1], *left[1:][-1:]]
    found = _undecodable(data, place, chosen)
    if found and not check_all:
        found = _undecodable(data, place, left)
    return problems | found


def _undecodable(data: h5py.Dataset, place: Rows, chosen: list[int]) -> dict[int, tuple[str, str]]:
    problems: dict[int, tuple[str, str]] = {}
    step = data.chunks[0] if data.chunks and data.shape != place.row_shape else 1
    damaged: dict[int, str] = {}

    def read(numbers: list[int]) -> str:
        try:
            read_source(data, place.row[numbers], place.row_shape)
        except OSError as error:
            return damage(error.__cause__ or error)
        return ""

    for start in range(0, len(chosen), _ROWS_AT_ONCE):
        block = chosen[start : start + _ROWS_AT_ONCE]
        if not read(block):
            continue
        for number in block:
            # What cannot be inflated is lost for all rows in it.
            chunk = int(place.row[number]) // step
            fault = damaged.get(chunk) or read([number])
            if fault:
                damaged[chunk] = fault
                detail = f"expected pixels that can be read, found damage ({fault})"
                problems[number] = ("unreadable_image", f"{data.file.filename}: {detail}")
    return problems


@contextmanager
def _copied(place: Rows, folder: Path) -> Iterator[np.ndarray]:
    """Yield a copy of pixels; beyond a limit it is a file, not memory."""
    with pixel_buffer(place.shape, folder, _BYTES_IN_MEMORY) as patches:
        for here, path, name in place.by_source():
            with opened(path) as file:
                data, _ = open_dataset(file, name)
                for start in range(0, len(here), _ROWS_AT_ONCE):
                    block = here[start : start + _ROWS_AT_ONCE]
                    patches[block] = read_source(data, place.row[block], place.row_shape)
        yield patches
