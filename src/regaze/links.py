"""Patches that stay in the file they were released in: HDF5 virtual datasets, written and read.

A shard's ``pixels`` maps runs of rows onto released files, whose paths are stored relative to the
shard's folder, so that both can be moved together. Virtual datasets of others are understood too,
as far as they are made of whole rows. HDF5 itself reads zeros where a source is missing or cannot
be opened, and takes a file of the same name in the working directory for one that is missing
beside the file; so virtual datasets are never read through it. :func:`locate` finds out where the
rows are, and they are read from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from regaze.hdf5 import MAX_ROWS, open_hdf5, read_rows

_MOST_OPEN = 64
_DEEPEST = 16


@dataclass
class Rows:
    """Where the rows of a dataset are stored.

    Attributes:
        sources: file, dataset and its shape. One with an axis less than ``shape`` is a single row.
        source: (N,) index of each row's source, -1 for rows that nothing is mapped to.
        row: (N,) int64 row of the source.
        row_shape: shape of a row.
    """

    sources: tuple[tuple[str, str, tuple[int, ...]], ...]
    source: np.ndarray
    row: np.ndarray
    row_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dataset."""
        return (len(self), *self.row_shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of pixels, which are the only rows that are linked."""
        return np.dtype(np.uint8)

    def taken(self, rows: np.ndarray) -> Rows:
        """Return chosen rows of these."""
        return Rows(self.sources, self.source[rows], self.row[rows], self.row_shape)

    def by_source(self) -> Iterator[tuple[np.ndarray, str, str]]:
        """Yield places of rows with the file and dataset that they lie in; "" where in none."""
        for number in np.unique(self.source).tolist():
            path, name, _ = ("", "", ()) if number < 0 else self.sources[number]
            yield np.flatnonzero(self.source == number), path, name

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows that follow one another in one source."""
        apart = (np.diff(self.source) != 0) | (np.diff(self.row) != 1)
        cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(self)]
        yield from zip(cuts[:-1], cuts[1:], strict=True) if len(self) else ()

    def layout(self, folder: Path) -> h5py.VirtualLayout:
        """Return the mapping for a file in ``folder``: one piece for every run of rows."""
        layout = h5py.VirtualLayout(shape=self.shape, dtype=np.uint8)
        # The time of writing would make the bytes of equal shards differ.
        layout.dcpl.set_obj_track_times(False)
        home = os.path.realpath(folder)
        for start, stop in self.runs():
            path, name, shape = self.sources[self.source[start]]
            near = os.path.relpath(os.path.realpath(path), home).replace("%", "%%")
            source = h5py.VirtualSource(near, name.replace("%", "%%"), shape=shape, dtype=np.uint8)
            first = int(self.row[start])
            whole = len(shape) == len(self.row_shape)
            layout[start:stop] = source if whole else source[first : first + stop - start]
        return layout


class PixelLink(Rows):
    """Chosen rows of the pixels of one other file."""

    def __init__(
        self, path: str | Path, name: str, source_shape: Sequence[int], rows: Sequence[int]
    ):
        """Choose rows.

        Args:
            path: the HDF5 file.
            name: path of the (n, H, W, 3) uint8 dataset inside it.
            source_shape: its shape.
            rows: (N,) rising row numbers.
        """
        rows = np.asarray(rows, np.int64)
        sources = ((str(path), name, tuple(source_shape)),)
        super().__init__(sources, np.zeros(len(rows), np.int64), rows, tuple(source_shape[1:]))


class Sources:
    """Files that virtual datasets lead to, opened once and closed with the block."""

    def __init__(self) -> None:
        self._files: dict[str, h5py.File] = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *error):
        for file in self._files.values():
            file.close()
        self._files.clear()

    def dataset(self, path: str, name: str, where: str) -> h5py.Dataset:
        """Return a dataset of another file that is stored there, not linked to.

        Raises:
            FileNotFoundError: there is no such file.
            InUse: it is being written.
            ValueError: it is not HDF5, or has no such dataset; the message names both files.
        """
        if path not in self._files:
            if len(self._files) >= _MOST_OPEN:
                self.__exit__()
            why = f"file, but {where} are a link to it"
            words = {"missing": f"no such {why}", "remedy": ""}
            clause = f"not a readable HDF5 {why}"
            self._files[path] = open_hdf5(path, clause, **words, rdcc_nbytes=0)
        here = self._files[path]
        for part in filter(None, name.split("/")):
            link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
            here = here[part] if isinstance(link, h5py.HardLink) else None
        if not isinstance(here, h5py.Dataset) or here.external:
            raise ValueError(
                f"{path}: {name}: expected a dataset that is stored in this file, since {where} "
                f"are a link to it, found {'none' if here is None else 'another'}"
            )
        return here


def locate(
    item: h5py.Dataset, where: str, files: Sources, above: tuple[tuple[str, str], ...] = ()
) -> Rows:
    """Return where the rows of a dataset are stored, following virtual datasets to their end.

    Pieces may be of any files, of any whole rows, and single rows that are datasets themselves.

    Args:
        item: the dataset, virtual or not.
        where: what messages call its rows, such as "the pixels of person p1".
        files: opened on the way.
        above: virtual datasets that lead here.

    Raises:
        FileNotFoundError: a source file is missing; it is looked for beside the file that names it
            (or in ``HDF5_VDS_PREFIX``), and nowhere else.
        InUse: a source file is being written.
        ValueError: a source cannot be used or has become shorter, a piece is no whole rows, or two
            are of the same rows.
    """
    path, name, shape, dtype = item.file.filename, item.name, item.shape, item.dtype
    if not item.is_virtual:
        rows = np.arange(shape[0], dtype=np.int64)
        return Rows(((path, name, shape),), np.zeros(shape[0], np.int64), rows, shape[1:])
    here = f"{path}: {name}"
    if shape[0] > MAX_ROWS:
        raise ValueError(f"{here}: expected at most {MAX_ROWS} rows, found shape {shape}")
    place = (os.path.realpath(path), name)
    if place in above or len(above) >= _DEEPEST:
        raise ValueError(f"{here}: expected a virtual dataset that ends somewhere, found a circle")
    pieces: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    targets: dict[str, str] = {}
    for part in item.virtual_sources():
        if part.file_name not in targets:
            targets[part.file_name] = _beside(part.file_name, path, here)
        key = target, inside = targets[part.file_name], _plain(part.dset_name, here)
        if key not in shapes:
            data = files.dataset(target, inside, where)
            single = data.shape == shape[1:]
            alike = data.dtype == dtype and (single or data.shape[1:] == shape[1:])
            if not alike or (single and data.is_virtual):
                raise ValueError(
                    f"{target}: {inside}: expected rows of shape {shape[1:]} and type {dtype} "
                    f"that are stored there, since {where} are a link to them, found shape "
                    f"{data.shape} of type {data.dtype}"
                )
            shapes[key] = data.shape
        to = _whole_rows(part.vspace, shape, shape[1:])
        if to is None or part.src_space.get_select_type() != h5py.h5s.SEL_ALL:
            at = _whole_rows(part.src_space, shapes[key], shape[1:])
        else:
            # All of a source, whose shape is not told.
            at = np.arange(1 if shapes[key] == shape[1:] else len(to), dtype=np.int64)
        if to is None or at is None:
            raise ValueError(
                f"{here}: expected a virtual dataset of whole rows of shape {shape[1:]}, found a "
                f"piece of {target}: {inside} of another form"
            )
        # One of the two may go on for as long as there is data.
        count = min(len(to), len(at))
        pieces.setdefault(key, []).append((to[:count], at[:count]))
    sources: dict[tuple[str, str, tuple[int, ...]], int] = {}
    source, row = np.full(shape[0], -1, np.int64), np.zeros(shape[0], np.int64)
    for key, found in pieces.items():
        to, at = (np.concatenate(side) for side in zip(*found, strict=True))
        needed = int(at.max(initial=-1)) + 1
        if needed > shapes[key][0]:
            raise ValueError(
                f"{key[0]}: {key[1]}: expected {needed} rows or more, since {where} are a link to "
                f"them, found shape {shapes[key]}"
            )
        if len(np.unique(to)) < len(to) or (source[to] >= 0).any():
            raise ValueError(f"{here}: expected each row once, found a row in two pieces")
        data, inner = files.dataset(*key, where), PixelLink(*key, shapes[key], at)
        if data.is_virtual:
            inner = locate(data, where, files, (*above, place)).taken(at)
        numbers = [sources.setdefault(one, len(sources)) for one in inner.sources]
        source[to], row[to] = np.array([*numbers, -1])[inner.source], inner.row
    return Rows(tuple(sources), source, row, shape[1:])


def source_files(item: h5py.Dataset) -> list[str]:
    """Return the files that a virtual dataset names, whether they are there or not."""
    path = item.file.filename
    names = dict.fromkeys(part.file_name for part in item.virtual_sources())
    return list(dict.fromkeys(_beside(name, path, f"{path}: {item.name}") for name in names))


def read_source(data: h5py.Dataset, rows: np.ndarray, row_shape: tuple[int, ...]) -> np.ndarray:
    """Return rows (n, *row_shape) of a source of :class:`Rows`, which may be one row itself.

    Raises:
        OSError: a row cannot be read.
    """
    if data.shape == row_shape:
        return np.broadcast_to(data[()], (len(rows), *row_shape))
    return read_rows(data, rows)


def missing_rows(rows: Rows, where: str) -> None:
    """Refuse a dataset of which HDF5 would read rows as zeros.

    Raises:
        ValueError: rows are mapped to nothing.
    """
    lost = np.flatnonzero(rows.source < 0)
    if len(lost):
        listed = ", ".join(dict.fromkeys(f"{path}: {name}" for path, name, _ in rows.sources))
        raise ValueError(
            f"{where}: expected {len(rows)} rows in the files that they are a link to "
            f"({listed or 'none'}), found no row {lost[0]} there ({len(lost)} such rows)"
        )


def _beside(name: str, path: str, where: str) -> str:
    """The file that a virtual dataset means by a name, whether it exists or not."""
    if name == ".":
        return path
    name = _plain(name, where)
    folders = [os.path.dirname(path), os.path.dirname(os.path.realpath(path))]
    if prefix := os.environ.get("HDF5_VDS_PREFIX"):
        folders.insert(0, prefix.replace("${ORIGIN}", folders[0] or "."))
    # An absolute name stays what it is.
    wanted = [os.path.join(folder, name) for folder in folders]
    return next((one for one in wanted if os.path.exists(one)), wanted[-2])


def _plain(name: str, where: str) -> str:
    """A name of a file or dataset as it is; ``%b`` stands for a number in HDF5's patterns."""
    if "%b" in name.replace("%%", ""):
        raise ValueError(f"{where}: expected a virtual dataset of named sources, found {name!r}")
    return name.replace("%%", "%")


def _whole_rows(
    space: h5py.h5s.SpaceID, shape: tuple[int, ...], row: tuple[int, ...]
) -> np.ndarray | None:
    """Return the rows that a selection is of, rising; None where it is of parts of rows.

    Args:
        space: the selection.
        shape: of the dataset as it is.
        row: shape of a row; a dataset of this shape is one row.
    """
    kind = space.get_select_type()
    if kind == h5py.h5s.SEL_ALL:
        return np.arange(shape[0], dtype=np.int64)
    if kind != h5py.h5s.SEL_HYPERSLABS or space.shape[-len(row) :] != row:
        return None
    if shape == row:
        return np.zeros(1, np.int64) if space.get_select_npoints() == np.prod(row) else None
    if not space.is_regular_hyperslab():
        if space.get_select_hyper_nblocks() > MAX_ROWS:
            return None
        blocks = np.asarray(space.get_select_hyper_blocklist(), np.int64)
        if (blocks[:, 0, 1:] != 0).any() or (blocks[:, 1, 1:] != np.array(row) - 1).any():
            return None
        return np.concatenate([np.arange(first, last + 1) for first, last in blocks[:, :, 0]])
    start, stride, count, block = (tuple(map(int, one)) for one in space.get_regular_hyperslab())
    for axis, side in enumerate(row, 1):
        apart = count[axis] > 1 and stride[axis] != block[axis]
        if start[axis] or apart or count[axis] * block[axis] != side:
            return None
    endless = h5py.h5s.UNLIMITED in (count[0], block[0])
    height = min(block[0], shape[0] if endless else MAX_ROWS, MAX_ROWS)
    # Without an end it goes on as far as there is data; nothing is allocated for a mere claim.
    most = max(shape[0] - start[0], 0) // stride[0] + 1 if endless else count[0]
    most = min(count[0], most, MAX_ROWS // max(height, 1) + 1)
    firsts = start[0] + stride[0] * np.arange(most, dtype=np.int64)
    rows = (firsts[:, None] + np.arange(height, dtype=np.int64)).ravel()
    return rows[rows < shape[0]] if endless else rows
