"""Patches that stay in the file they were released in: HDF5 virtual datasets, written and checked.

The shard's ``pixels`` maps runs of rows onto the released file, whose path is stored relative to
the shard's folder, so that both can be moved together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from regaze.filetypes import unreadable


@dataclass(frozen=True)
class PixelLink:
    """Chosen rows of the pixels of another file.

    Attributes:
        path: the HDF5 file.
        name: path of the (n, H, W, 3) uint8 dataset inside it.
        source_shape: its shape.
        rows: (N,) rising row numbers.
    """

    path: Path
    name: str
    source_shape: tuple[int, ...]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the virtual dataset."""
        return (len(self.rows), *self.source_shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Type of the virtual dataset."""
        return np.dtype(np.uint8)

    def layout(self, folder: Path) -> h5py.VirtualLayout:
        """Return the mapping for a file in ``folder``: one piece for every run of rows."""
        rows = np.asarray(self.rows, np.int64)
        path = os.path.relpath(os.path.realpath(self.path), os.path.realpath(folder))
        source = h5py.VirtualSource(path, self.name, shape=self.source_shape, dtype=np.uint8)
        layout = h5py.VirtualLayout(shape=self.shape, dtype=np.uint8)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(rows) != 1) + 1, [len(rows)]])
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            first = int(rows[start])
            layout[start:stop] = source[first : first + stop - start]
        return layout


def linked_rows(path: str, person: str, pixels: h5py.Dataset) -> tuple[str, str, np.ndarray] | None:
    """Return (file, dataset, rows (N,) int64) that a virtual ``pixels`` points at; else None.

    Raises:
        ValueError: the mapping is not of the form that :meth:`PixelLink.layout` writes.
    """
    if not pixels.is_virtual:
        return None
    rows = np.full(len(pixels), -1, np.int64)
    targets = set()
    for part in pixels.virtual_sources():
        targets.add((part.file_name, part.dset_name))
        (to, *_), (to_end, *_) = part.vspace.get_select_bounds()
        (at, *_), (at_end, *_) = part.src_space.get_select_bounds()
        points = (to_end - to + 1) * int(np.prod(pixels.shape[1:]))
        if at_end - at != to_end - to or part.src_space.get_select_npoints() != points:
            break
        rows[to : to_end + 1] = np.arange(at, at_end + 1)
    if len(targets) != 1 or (rows < 0).any():
        raise ValueError(
            f"{path}: {person}/pixels: expected a virtual dataset of whole rows of one file, "
            f"found pieces of {sorted(targets)}"
        )
    name, inside = targets.pop()
    return (path if name == "." else str(Path(path).parent / name)), inside, rows


def check_links(links: Mapping[str, tuple[str, str, np.ndarray]]) -> None:
    """Check that what :func:`linked_rows` returned for each person is there.

    Raises:
        FileNotFoundError: a file that is linked to is missing.
        ValueError: it is not HDF5, or its dataset is missing or has fewer rows than are used.
    """
    with ExitStack() as stack:
        files: dict[str, h5py.File] = {}
        for person, (path, inside, rows) in links.items():
            if path not in files:
                if not Path(path).exists():
                    raise FileNotFoundError(
                        f"{path}: no such file, but the pixels of person {person} are a link to it"
                    )
                try:
                    files[path] = stack.enter_context(h5py.File(path, "r"))
                except OSError as error:
                    clause = (
                        f"not a readable HDF5 file, but the pixels of person {person} are a link "
                        "to it"
                    )
                    raise ValueError(unreadable(path, clause, "hdf5", error)) from None
            found = files[path].get(inside)
            needed = int(rows.max(initial=-1)) + 1
            if not isinstance(found, h5py.Dataset) or len(found) < needed:
                raise ValueError(
                    f"{path}: {inside}: expected {needed} rows or more, as person {person} is a "
                    f"link to them, found {getattr(found, 'shape', None)}"
                )
