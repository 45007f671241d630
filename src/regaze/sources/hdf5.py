"""Reading of HDF5 files that others wrote: data of the file itself, and only what was written.

A damaged or hostile file must end in one clear error: links out of the file are not followed,
nothing is allocated that a header merely claims, and rows that were never written, which HDF5
reads as zeros, are told from rows that are.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from regaze.filetypes import damage, unreadable
from regaze.hdf5 import MAX_ROWS, InUse, hdf5_file
from regaze.links import Sources, locate, source_files
from regaze.sources.records import SourceError

log = logging.getLogger(__name__)


@contextmanager
def opened(path: str | Path, where: str | None = None) -> Iterator[h5py.File]:
    """Yield the file, open for reading.

    Args:
        path: the HDF5 file.
        where: what a message about damage begins with; default the path.

    Raises:
        InUse: it, or a file that it refers to, is being written: nobody's data are lost.
        SourceError: there is no such file, it is not HDF5, or reading of it fails in the block.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        file = hdf5_file(path)
    except InUse:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        told = f"{path}: expected an HDF5 file, found another: an empty file"
        if path.stat().st_size:
            told = unreadable(path, "expected an HDF5 file, found another", "hdf5", error)
        raise SourceError(told) from None
    with file:
        try:
            yield file
        except (SourceError, InUse):
            raise
        except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
            told = f"expected readable HDF5, found damage ({damage(error)})"
            raise SourceError(f"{where or path}: {told}") from None


def names_in(path: str | Path, group: h5py.Group) -> list[str]:
    """Return the sorted names in ``group``.

    Raises:
        SourceError: one of them is not UTF-8.
    """
    names = list(group)
    for name in names:
        # h5py hands out bytes, or text with stand-ins for bytes, where a name is no UTF-8.
        raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            shown = raw.decode("utf-8", "backslashreplace")
            raise SourceError(f"{path}: expected UTF-8 names of persons, found '{shown}'") from None
    return sorted(names)


def text_of(value: object) -> str:
    """Return a value of a text dataset as text, whatever bytes it holds."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def has(group: h5py.Group, name: str) -> bool:
    """Return whether ``group`` has the name; unlike ``in`` this opens nothing a link points to."""
    return group.id.links.exists(name.encode("utf-8", "surrogateescape"))


def member(where: str, group: h5py.Group, name: str):
    """Return an object of ``group`` that is stored in the file itself; None when there is none.

    Raises:
        SourceError: it is a soft or external link.
    """
    if not has(group, name):
        return None
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
        target = getattr(link, "filename", "") or link.path
        raise SourceError(
            f"{where}: {name}: expected data in the file itself, found a link to {target!r}"
        )
    return group[name]


def add_persons(home: dict[str, Path], path: Path, persons: Sequence[str]) -> None:
    """Note in ``home`` that ``persons`` are in the file ``path``.

    Raises:
        SourceError: one of them is in another file too.
    """
    for person in persons:
        if person in home:
            raise SourceError(
                f"{path}: person {person}: expected each person in one file, "
                f"found it in {home[person]} too"
            )
        home[person] = path


def by_file(home: Mapping[str, Path], persons: Iterable[str]) -> dict[Path | None, list[str]]:
    """Return persons by the file that they are in; those in none are under None."""
    found: dict[Path | None, list[str]] = {}
    for person in persons:
        found.setdefault(home.get(person), []).append(person)
    return found


def rows_dataset(where: str, group: h5py.Group, name: str, row_ndim: int) -> h5py.Dataset:
    """Return a numeric dataset of rows with ``row_ndim`` axes each.

    Raises:
        SourceError: there is none (``missing_key``), or it is of another form (``bad_shape``).
    """
    item, where = member(where, group, name), f"{where}: {name}"
    if not isinstance(item, h5py.Dataset):
        found = f"found only {sorted(map(str, group))}"
        raise SourceError(f"{where}: expected a dataset, {found}", "missing_key")
    if item.ndim != 1 + row_ndim or item.dtype.kind not in "fiu" or item.shape[0] > MAX_ROWS:
        raise SourceError(
            f"{where}: expected at most {MAX_ROWS} rows of numbers with {row_ndim} axes each, "
            f"found shape {item.shape} of type {item.dtype}",
            "bad_shape",
        )
    if item.external:
        found = f"found data in {item.external}"
        raise SourceError(f"{where}: expected data in the file itself, {found}")
    require_filters(where, item)
    return item


def require_filters(where: str, item: h5py.Dataset) -> None:
    """Raise a SourceError where ``item`` needs a filter (compression) that this HDF5 has not."""
    create = item.id.get_create_plist()
    for number in range(create.get_nfilters()):
        code, _, _, name = create.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            found = f"found filter {code} ({name.decode('utf-8', 'replace')})"
            raise SourceError(f"{where}: expected a compression that is installed, {found}")


def chunk_bytes(item: h5py.Dataset) -> int:
    """Return the bytes of what is unpacked at once: a chunk, or a row of a dataset without."""
    return math.prod(item.chunks or (1, *item.shape[1:])) * item.dtype.itemsize


def largest_chunk(item: h5py.Dataset) -> int:
    """Return the bytes that a stored chunk may have before it is taken for a decompression bomb.

    Compression adds a few bytes to what it cannot make smaller; HDF5 inflates whatever a chunk
    holds, a thousand times its size, before it notices that the chunk should be smaller.
    """
    size = chunk_bytes(item)
    return size + size // 8 + 1024


def stored_rows(item: h5py.Dataset) -> np.ndarray:
    """Return (n,) bool: which rows lie within the file, as far as its index tells.

    Rows that were never written, rows beyond the end of a file that was cut off and rows in chunks
    that are larger than their data are False, and so are rows of a virtual dataset that lie in no
    other file. It reads the index only, no data: some microseconds per chunk.

    Raises:
        InUse: a source of a virtual dataset is being written.
        SourceError: a source of a virtual dataset is missing or cannot be used.
    """
    if item.is_virtual:
        return _stored_sources(item)
    size = item.file.id.get_filesize()
    if item.chunks is None:
        if item.id.get_create_plist().get_layout() == h5py.h5d.COMPACT:
            return np.ones(len(item), bool)
        offset, row = item.id.get_offset(), math.prod(item.shape[1:]) * item.dtype.itemsize
        if offset is None:
            return np.zeros(len(item), bool)
        return offset + row * (1 + np.arange(len(item))) <= size
    # Chunks may cut a row into pieces; it is there when all of them are.
    pieces = math.prod(
        -(-side // chunk) for side, chunk in zip(item.shape[1:], item.chunks[1:], strict=True)
    )
    found = np.zeros(len(item), np.int64)
    step, most = item.chunks[0], largest_chunk(item)

    def count(info) -> None:
        there = info.byte_offset is not None and info.byte_offset + info.size <= size
        if there and info.size <= most:
            found[info.chunk_offset[0] : info.chunk_offset[0] + step] += 1

    item.id.chunk_iter(count)
    return found == pieces


def _stored_sources(item: h5py.Dataset) -> np.ndarray:
    where = f"the rows of {item.name} in {item.file.filename}"
    found = np.zeros(len(item), bool)
    with Sources() as files:
        try:
            place = locate(item, where, files)
            for here, path, name in place.by_source():
                if path:
                    data = files.dataset(path, name, where)
                    stored = stored_rows(data)
                    whole = data.shape == place.row_shape
                    found[here] = stored.all() if whole else stored[place.row[here]]
        except (InUse, SourceError):
            raise
        except (OSError, ValueError) as error:
            raise SourceError(str(error)) from error
    return found


def files_of(path: Path, root: Path, pixels: Mapping[str, str]) -> dict[str, list[str]]:
    """Return by person the names below ``root`` of the files that its pixels are read from.

    They are the file itself and, of virtual datasets, those that they are mapped to.

    Args:
        path: the file of these persons.
        root: of the data set.
        pixels: path of the dataset in the file, by person.
    """
    found = {person: [path] for person in pixels}
    try:
        with opened(path) as file:
            for person, name in pixels.items():
                here: Any = file
                for part in name.split("/"):
                    here = member(str(path), here, part) if isinstance(here, h5py.Group) else None
                if isinstance(here, h5py.Dataset) and here.is_virtual:
                    found[person] += map(Path, source_files(here))
    except SourceError as error:
        log.debug("%s: taken without what it refers to: %s", path, error)
    return {
        person: [os.path.relpath(one, root) for one in dict.fromkeys(paths)]
        for person, paths in found.items()
    }


def likely_rows(group: h5py.Group, names: Sequence[str]) -> int:
    """Return how many rows a person has whose datasets ``names`` do not all make sense.

    It is the most that any of them holds, for the count of what is rejected with the person.
    """
    found = [0]
    for name in names:
        try:
            link = group.get(name, getlink=True) if has(group, name) else None
            item = group[name] if isinstance(link, h5py.HardLink) else None
            if not isinstance(item, h5py.Dataset) or not item.shape or len(item) > MAX_ROWS:
                continue
            found.append(len(item))
            if not (item.is_virtual or item.external):
                found[-1] = last_stored(item)
        except (OSError, RuntimeError, LookupError) as error:
            log.debug("%s: what is left of it is counted: %s", name, error)
    return max(found)


@contextmanager
def losing_rows(group: h5py.Group, names: Sequence[str]) -> Iterator[None]:
    """Tell a SourceError of the block how many rows, as :func:`likely_rows`, are lost with it."""
    try:
        yield
    except SourceError as error:
        error.file_names = ("",) * likely_rows(group, names)
        raise


def last_stored(item: h5py.Dataset) -> int:
    """Return the number of rows up to the last one that lies within the file."""
    there = np.flatnonzero(stored_rows(item))
    return int(there[-1]) + 1 if len(there) else 0


def numbers(
    where: str, group: h5py.Group, name: str, shapes: tuple[tuple[int, ...], ...], rows: int
) -> np.ndarray:
    """Return the first ``rows`` rows of a dataset as float64; rows never written become NaN.

    Raises:
        SourceError: as :func:`rows_dataset`; ``bad_shape`` also when there are fewer rows or a row
            has none of ``shapes``.
    """
    item = rows_dataset(where, group, name, len(shapes[0]))
    if len(item) < rows or item.shape[1:] not in shapes:
        wanted = " or ".join(str((rows, *shape)) for shape in shapes)
        told = f"expected shape {wanted}, found {item.shape}"
        raise SourceError(f"{where}: {name}: {told}", "bad_shape")
    if item.is_virtual:
        told = "expected data in the file itself, found a virtual dataset"
        raise SourceError(f"{where}: {name}: {told}")
    values = np.full((rows, *item.shape[1:]), np.nan)
    there = np.flatnonzero(stored_rows(item)[:rows])
    try:
        # Pieces without gaps: nothing is read of rows that are not there.
        for piece in np.split(there, np.flatnonzero(np.diff(there) != 1) + 1):
            if len(piece):
                values[piece] = item[piece[0] : piece[-1] + 1]
    except OSError as error:
        raise SourceError(f"{where}: {name}: expected readable data, found {error}") from error
    return values
