"""Opening and reading of HDF5 files, whoever wrote them."""

from __future__ import annotations

import errno
import io
import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from regaze.filetypes import damage, unreadable
from regaze.outputs import REMEDY, replacing

MAX_ROWS = 1_000_000
"""Rows of one person above which a file is taken for damaged; ETH-XGaze has some 20,000,
GazeCapture some thousands."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LOCKED = {errno.EAGAIN, errno.EACCES}
_UNABLE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class InUse(OSError):
    """An HDF5 file that cannot be opened for a lock, which says nothing of what it holds."""


class ShardWriter:
    """Writes an HDF5 file, which appears under its name only when the block ends without error.

    Args:
        path: the file.
        attributes: of the file.
    """

    def __init__(self, path: str | os.PathLike, attributes: Mapping[str, Any]):
        self.path, self._attributes = Path(path), attributes

    def __enter__(self) -> Self:
        self._replacing = replacing(self.path)
        self._file = h5py.File(self._replacing.__enter__(), "w")
        self._file.attrs.update(self._attributes)
        return self

    def __exit__(self, *error):
        self._file.close()
        return self._replacing.__exit__(*error)


def hdf5_file(path: str | os.PathLike, **options) -> h5py.File:
    """Return an HDF5 file opened for reading; ``options`` are those of :class:`h5py.File`.

    Raises:
        InUse: another process has it open for writing, or its file system knows no locks.
        OSError: there is no such file, it is no HDF5, or it is damaged.
    """
    try:
        return h5py.File(path, "r", **options)
    except OSError as error:
        if reason := _in_use(error):
            raise InUse(
                f"{path}: {reason}; see HDF5_USE_FILE_LOCKING in docs/troubleshooting.md"
            ) from error
        raise


def open_hdf5(
    path: str | os.PathLike,
    clause: str = "not a readable HDF5 file",
    *,
    missing: str = "no such file",
    remedy: str = REMEDY,
    kind: type[ValueError] = ValueError,
    **options,
) -> h5py.File:
    """An HDF5 file of the workflow, open for reading.

    Args:
        path: the file.
        clause, missing, remedy: of the message, where it is something else and where it is missing.
        kind: of the error where it is something else.
        options: of :class:`h5py.File`.

    Raises:
        FileNotFoundError: no such file.
        InUse: it is being written.
        ValueError: it is something else or damaged.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: {missing}")
    try:
        return hdf5_file(path, **options)
    except InUse:
        raise
    except OSError as error:
        raise kind(f"{unreadable(path, clause, 'hdf5', error)}{remedy}") from None


def _in_use(error: OSError) -> str:
    """What keeps a file from being opened, where it is not the file itself; "" otherwise."""
    if "lock file" in str(error):
        if error.errno in _LOCKED:
            return "in use, another process has it open for writing; run again when that has ended"
        if error.errno in _UNABLE:
            return f"in use or on a file system without locks ({os.strerror(error.errno)})"
    # HDF5's own mark, which a writer that was killed leaves behind.
    if "already open for" in str(error):
        return (
            "in use, it is marked as open for writing; run again when its writer has ended, or "
            "clear the mark of a writer that was killed by `h5clear -s`"
        )
    return ""


class _Longer(io.RawIOBase):
    """A file that goes on with zeros where it ends."""

    def __init__(self, file: io.FileIO):
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: 1 << 62}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer) -> int:
        self._file.seek(self._place)
        got = self._file.readinto(buffer) or 0
        buffer[got:] = bytes(len(buffer) - got)
        self._place += len(buffer)
        return len(buffer)


@contextmanager
def cut_off(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Yield what is left of an HDF5 file that was cut off, to find out how much there was.

    HDF5 refuses such a file as a whole; here it goes on with zeros. What lies before the cut is as
    it was, mostly the shapes of datasets; anything read beyond is an error or zeros.

    Raises:
        OSError, RuntimeError: there is no such file, or nothing of it is left.
    """
    if not os.path.isfile(path):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    with open(path, "rb", buffering=0) as file, h5py.File(_Longer(file), "r") as whole:
        yield whole


def shapes_left(path: str | os.PathLike) -> list[tuple[int, ...]]:
    """Return shapes of datasets in the root of a file that was cut off, whose names are lost.

    HDF5 moves the names of a group to the file's end as they become more, but leaves the list of
    its members where it was. It is read here as the "HDF5 File Format Specification" describes the
    symbol table of a group (superblock of version 0, the one that HDF5 writes by default): nodes of
    a tree, whose leaves tell where each member's header is, and in it the message of its shape.
    """
    if not os.path.isfile(path):
        return []
    with open(path, "rb") as file:

        def read(at: int, form: str) -> tuple:
            file.seek(min(at, 1 << 62))
            part = file.read(struct.calcsize(form))
            return struct.unpack(form, part) if len(part) == struct.calcsize(form) else ()

        signature, version, *sizes = read(0, "<8sB4xBB") or (b"", None)
        if signature != _SIGNATURE or version != 0 or sizes != [8, 8]:
            return []
        tree = read(80, "<Q")
        mark, _, level, used = (tree and read(tree[0], "<4sBBH")) or (b"", 0, 0, 0)
        if mark != b"TREE" or level != 0:
            return []
        shapes = []
        for leaf in range(used):
            place = read(tree[0] + 32 + 16 * leaf, "<Q")
            mark, members = (place and read(place[0], "<4s2xH")) or (b"", 0)
            for member in range(members if mark == b"SNOD" else 0):
                header = read(place[0] + 16 + 40 * member, "<Q")
                rank = header and read(header[0], "<B15xH6xBB")
                if rank and rank[:3] in ((1, 1, 1), (1, 1, 2)) and 0 < rank[3] <= 32:
                    first = 24 + (8 if rank[2] == 1 else 4)
                    shapes.append(read(header[0] + first, f"<{rank[3]}Q"))
        return [shape for shape in shapes if shape]


def open_dataset(group: h5py.Group, name: str) -> tuple[h5py.Dataset, int]:
    """Return a dataset of a file without a chunk cache, and the bytes that it may cache itself.

    Of a dataset with several rows to a chunk the last chunk is kept, or the chunks side by side
    that make up its rows, so that rows read one after the other inflate it once.
    """
    data = group[name]
    if not data.chunks or data.chunks[0] == 1:
        return data, 0
    sides = zip(data.shape[1:], data.chunks[1:], strict=True)
    pieces = math.prod(-(-side // chunk) for side, chunk in sides)
    size = pieces * math.prod(data.chunks) * data.dtype.itemsize
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(max(521, 10 * pieces), size, 1.0)
    path, file = data.name, data.file
    # As long as it is open, opening it once more changes nothing.
    del data
    return h5py.Dataset(h5py.h5d.open(file.id, path.encode(), access)), size


def read_rows(data: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Return rows (n,) of a dataset in the order asked for, inflating no chunk twice.

    Files of other projects often hold many rows to a chunk, and HDF5 inflates a chunk whole for
    each row that is asked for. Memory is that of the result and of one chunk.

    Raises:
        OSError: a row cannot be read; the message names the range that was read with it.
    """
    rows = np.asarray(rows, np.int64)
    out = np.empty((len(rows), *data.shape[1:]), data.dtype)
    for places, first, stop in _pieces(rows, data.chunks[0] if data.chunks else 1):
        try:
            block = data[first] if stop == first + 1 else data[first:stop]
        except OSError as error:
            told = f"rows {first} to {stop - 1} cannot be read ({damage(error)})"
            raise OSError(told) from error
        out[places] = block if stop == first + 1 else block[rows[places] - first]
    return out


def _pieces(rows: np.ndarray, step: int) -> Iterator[tuple[slice | np.ndarray, int, int]]:
    """Yield places in ``rows`` with the range of rows to be read for them at once."""
    if step == 1:
        # Neighbours that are asked for one after the other.
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        starts = [0, *cuts.tolist(), len(rows)]
        for start, stop in zip(starts[:-1], starts[1:], strict=True):
            if stop > start:
                yield slice(start, stop), int(rows[start]), int(rows[stop - 1]) + 1
        return
    order = np.argsort(rows, kind="stable")
    cuts = np.flatnonzero(np.diff(rows[order] // step)) + 1
    for places in np.split(order, cuts) if len(order) else ():
        yield places, int(rows[places[0]]), int(rows[places[-1]]) + 1
