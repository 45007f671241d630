"""Faces shards of data sets that were released as patches: labels, and links to the pixels."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from regaze.faces import LABELS, FacesAttributes, FacesWriter
from regaze.filetypes import damage
from regaze.links import PixelLink, linked_rows
from regaze.normalise.rejections import Rejection, RowCounts, write_rejected
from regaze.sources.hdf5 import last_stored, opened, rows_dataset, stored_rows
from regaze.sources.records import NormalisedRows, NormalisedSource, SourceError

log = logging.getLogger(__name__)

CHECKS = ("ends", "all")
_BYTES_IN_MEMORY = 256 << 20
_PITCH, _YAW = (0, 2, 4, 6), (1, 3, 5, 7)
_SLACK = 1e-5
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

    Raises:
        ValueError: an unknown ``check_pixels``.
    """
    if check_pixels not in CHECKS:
        raise ValueError(f"check_pixels: expected one of {CHECKS}, found {check_pixels!r}")
    rejections: list[Rejection] = []
    rows_out = 0
    with FacesWriter(out_faces, source.attributes) as writer:
        for person in sorted(persons):
            names: tuple[str, ...] = ()
            try:
                rows = source.read_faces(person)
                names = rows.file_name or ("",) * len(rows)
                checked = _check(rows, source.attributes, copy or check_pixels == "all")
            except SourceError as error:
                log.warning("person %s left out: %s", person, error)
                left = list(enumerate(error.file_names or names)) or [(-1, "")]
                rejections += [
                    Rejection(person, row, name, error.reason, str(error)) for row, name in left
                ]
                continue
            for row, (reason, detail) in checked.problems.items():
                rejections.append(Rejection(person, row, names[row], reason, detail))
            kept = _write(writer, rows, checked, copy)
            rows_out += kept
            log.info("person %s: %d of %d rows kept", person, kept, len(rows))
    write_rejected(out_rejected, rejections, rows_out)
    return RowCounts(rows_out + len(rejections), rows_out)


@dataclass(frozen=True)
class _Checked:
    """Where pixels lie, ``rows`` (n,) of dataset ``name`` of shape ``shape`` in the file ``path``,
    and reason and detail of what is wrong, by row."""

    path: Path
    name: str
    shape: tuple[int, ...]
    rows: np.ndarray
    problems: dict[int, tuple[str, str]]


def _check(rows: NormalisedRows, attributes: FacesAttributes, check_all: bool) -> _Checked:
    problems = _label_problems(rows.labels, attributes.gaze == "known")
    path, name, at = _find_pixels(rows, attributes.patch_size)
    with opened(path) as file:
        data = file[name]
        problems |= _pixel_problems(data, at, check_all, skip=problems)
        return _Checked(path, name, data.shape, at, problems)


def _write(writer: FacesWriter, rows: NormalisedRows, checked: _Checked, copy: bool) -> int:
    """Write the good rows of one person and return their number."""
    kept = np.array([row for row in range(len(rows)) if row not in checked.problems], np.int64)
    columns = {name: values[kept] for name, values in rows.columns.items()}
    columns.setdefault("source_index", kept)
    if rows.file_name:
        columns["file_name"] = [rows.file_name[row] for row in kept]
    at, labels = checked.rows[kept], rows.labels[kept]
    if not copy:
        link = PixelLink(checked.path, checked.name, checked.shape, at)
        writer.add_person(rows.person, link, labels, **columns)
    elif len(kept):
        with _copied(checked, at, writer.path.parent) as patches:
            writer.add_person(rows.person, patches, labels, **columns)
    return len(kept)


def _find_pixels(rows: NormalisedRows, size: tuple[int, int]) -> tuple[Path, str, np.ndarray]:
    """Return file, dataset and rows (n,) of a person's pixels; a link is followed to its end.

    Raises:
        SourceError: they are not uint8 patches of ``size``, one for every label.
    """
    where = f"{rows.path}: {rows.person}"
    with opened(rows.path) as file:
        data = rows_dataset(where, file, rows.pixels, 3)
        try:
            target = linked_rows(str(rows.path), rows.person, data)
        except ValueError as error:
            raise SourceError(
                f"{where}: {rows.pixels}: expected a link to rows of one file, found {error}",
                "bad_shape",
            ) from error
        # Beyond the labels there may be room that was never filled.
        used = len(data) if data.is_virtual or len(data) <= len(rows) else last_stored(data)
        if data.dtype != np.uint8 or (used, *data.shape[1:]) != (len(rows), size[1], size[0], 3):
            raise SourceError(
                f"{where}: {rows.pixels}: expected {(len(rows), size[1], size[0], 3)} uint8, "
                f"found {(used, *data.shape[1:])} {data.dtype}",
                "bad_shape",
                rows.file_name + ("",) * (max(used, len(rows)) - len(rows.file_name)),
            )
    if target is None:
        return rows.path, rows.pixels, np.arange(len(rows))
    path, name, at = target
    with opened(path) as file:
        found = file.get(name)
        plain = isinstance(found, h5py.Dataset) and not found.is_virtual and found.ndim == 4
        if not plain or len(found) <= at.max(initial=-1):
            raise SourceError(
                f"{where}: {rows.pixels}: expected a link to {at.max(initial=-1) + 1} patches or "
                f"more in {path}, found {found!r}",
                "bad_shape",
            )
    return Path(path), name, at


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
    data: h5py.Dataset, rows: np.ndarray, check_all: bool, skip: dict
) -> dict[int, tuple[str, str]]:
    """Return reason and detail of rows whose pixels cannot be read; ``skip`` needs no check."""
    problems: dict[int, tuple[str, str]] = {}
    stored = stored_rows(data)[rows]
    for row in np.flatnonzero(~stored).tolist():
        if row not in skip:
            problems[row] = ("unreadable_image", _NOT_STORED)
    left = [row for row in range(len(rows)) if row not in skip and row not in problems]
    chosen = left if check_all else [*left[:1], *left[1:][-1:]]
    found = _undecodable(data, rows, chosen)
    if found and not check_all:
        found = _undecodable(data, rows, left)
    return problems | found


def _undecodable(
    data: h5py.Dataset, rows: np.ndarray, chosen: list[int]
) -> dict[int, tuple[str, str]]:
    problems = {}
    for row in chosen:
        try:
            data[int(rows[row])]
        except OSError as error:
            detail = f"expected pixels that can be read, found damage ({damage(error)})"
            problems[row] = ("unreadable_image", f"{data.file.filename}: {detail}")
    return problems


@contextmanager
def _copied(checked: _Checked, rows: np.ndarray, folder: Path) -> Iterator[np.ndarray]:
    """Yield a copy of the chosen rows; beyond a limit it is a file, not memory."""
    shape = (len(rows), *checked.shape[1:])
    large = int(np.prod(shape)) > _BYTES_IN_MEMORY
    with tempfile.TemporaryFile(dir=folder) as room, h5py.File(checked.path, "r") as file:
        patches = np.memmap(room, np.uint8, "w+", shape=shape) if large else np.empty(shape, "u1")
        data = file[checked.name]
        for place, row in enumerate(rows.tolist()):
            patches[place] = data[row]
        yield patches
