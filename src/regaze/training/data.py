"""Training batches that depend on (seed, step) alone, so that training resumes exactly.

Processes take consecutive parts of each batch: their union is the batch of a single process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from regaze.faces import FacesReader
from regaze.jobs import asked_memory
from regaze.outputs import replacing
from regaze.provenance import content_hash
from regaze.training.settings import patches_fault

_BLOCK = 256
"""Patches read at a time when they are written to a file."""


class Rows:
    """Chosen rows of a faces data set with their patches, and the order they are visited in."""

    def __init__(
        self,
        reader: FacesReader,
        persons: Sequence[str],
        *,
        size: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cache: str = "memory",
        chosen: np.ndarray | None = None,
    ):
        """Bind the rows of ``persons``.

        Args:
            reader: faces of the data set.
            persons: whose rows to use.
            size: side of the training images in pixels; patches are averaged down to it.
            batch: images per step of this process.
            seed: seed of order and pairing.
            rank: this process among ``world``.
            world: number of processes.
            cache: ``memory`` holds all patches as uint8, ``none`` reads them per batch; ``mmap``
                reads them per batch until :meth:`keep_in` is called.
            chosen: numbers of the rows to use among those of the persons; None means all.

        Raises:
            ValueError: none of the persons has rows, or the patches are to be held in memory and
                are more than the job asks for.
        """
        self.reader, self.size, self.batch = reader, size, batch
        self.seed, self.rank, self.world = seed, rank, world
        self.rows = reader.rows(persons)
        if len(self.rows) == 0:
            paths = ", ".join(reader.paths)
            raise ValueError(f"{paths}: no rows for the {len(persons)} persons asked for")
        if chosen is not None:
            self.rows = self.rows[chosen]
        asked = asked_memory() if cache == "memory" else None
        if fault := patches_fault(len(self.rows), reader.patch_size or (0, 0), asked):
            raise ValueError(fault)
        self._table = reader.labels[self.rows, :4]
        # Places in `rows` that are visited; others are partners only.
        self._visits = np.arange(len(self.rows))
        self._pixels = reader.pixels(self.rows) if cache == "memory" else None
        self._file: Path | None = None
        self._order: tuple[int, np.ndarray] | None = None

    def __getstate__(self):
        # A map would be pickled as its content; loader processes open their own.
        return {**self.__dict__, "_pixels": None} if self._file else self.__dict__

    def keep_in(self, folder: str | Path) -> None:
        """Hold the patches in a file of ``folder`` that is mapped, written unless it is there.

        The file is (N,H,W,3) uint8 without a header, in the order of the rows, about as large as
        the patches in memory; its name tells the content of the faces files and the rows, and files
        of other content are removed. Memory is bounded: blocks of rows are written, and mapped
        pages are the system's cache, one for all processes of a machine.
        """
        # Rows exist, so the patches have a size.
        width, height = self.reader.patch_size or (0, 0)
        shape = (len(self.rows), height, width, 3)
        key = content_hash([self.reader.fingerprint(), self.rows.tolist(), shape])
        path = Path(folder) / f"patches-{key}.u8"
        if not path.exists() or path.stat().st_size != np.prod(shape):
            with replacing(path) as part, open(part, "wb") as stream:
                for start in range(0, len(self.rows), _BLOCK):
                    block = self.reader.pixels(self.rows[start : start + _BLOCK])
                    stream.write(block.tobytes())
            for other in path.parent.glob("patches-*.u8"):
                if other != path:
                    other.unlink()
        self._file, self._shape, self._pixels = path, shape, None

    def _positions(self, step: int) -> np.ndarray:
        start = (step * self.world + self.rank) * self.batch
        return np.arange(start, start + self.batch)

    def _visited(self, position: int) -> int:
        """Index into ``rows`` of the ``position``-th image seen: a fresh shuffle every epoch."""
        epoch, place = divmod(int(position), len(self._visits))
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._order = (epoch, rng.permutation(len(self._visits)))
        return int(self._visits[self._order[1][place]])

    def _patches(self, places: np.ndarray) -> torch.Tensor:
        if self._file is not None and self._pixels is None:
            self._pixels = np.memmap(self._file, np.uint8, "r", shape=self._shape)
        if self._pixels is None:
            return torch.from_numpy(np.ascontiguousarray(self.reader.pixels(self.rows[places])))
        return torch.from_numpy(np.asarray(self._pixels[places]))
