"""Samples files: redirected pictures of one model, by the number of their pair."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np

from regaze.hdf5 import open_hdf5, read_rows


class Samples:
    """A samples file; it is opened for as long as pictures are read.

    Attributes:
        path: the file.
        numbers: (n,) int64, the pair of every picture.
        size: (width, height) of the pictures.
        attributes: of the file, as plain values.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a data set is missing or has another shape or type.
    """

    def __init__(self, path: str | os.PathLike):
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path}: expected a samples file, found none")
        self.path = path
        with open_hdf5(path) as file:
            for name in ("pixels", "pair"):
                if name not in file:
                    raise ValueError(f"{path}: expected a data set {name!r}, found {sorted(file)}")
            shape, dtype = file["pixels"].shape, file["pixels"].dtype
            self.numbers = file["pair"][:].astype(np.int64)
            count = len(self.numbers)
            if len(shape) != 4 or shape[-1] != 3 or dtype != np.uint8 or shape[0] != count:
                raise ValueError(
                    f"{path}: pixels: expected ({count},H,W,3) uint8, found {shape} {dtype}"
                )
            self.attributes = {key: _plain(value) for key, value in file.attrs.items()}
        self.size = (int(shape[2]), int(shape[1]))
        self._row = {int(number): row for row, number in enumerate(self.numbers)}

    def __contains__(self, pair: int) -> bool:
        return int(pair) in self._row

    def read(self, pairs: Iterable[int]) -> np.ndarray:
        """The pictures (n,H,W,3) uint8 of pairs that the file holds, in their order."""
        rows = np.array([self._row[int(pair)] for pair in pairs], np.int64)
        with open_hdf5(self.path) as file:
            return read_rows(file["pixels"], rows)

    def pictures(self, pairs: Iterable[int]) -> dict[int, np.ndarray]:
        """``{pair: (H,W,3) uint8}`` for those of ``pairs`` that the file holds."""
        held = [int(pair) for pair in pairs if pair in self]
        return dict(zip(held, self.read(held), strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, h5py.Empty):
        return None
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
