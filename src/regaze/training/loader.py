"""Batches by step, prepared ahead by loader processes and handed over in shared memory.

Where ``/dev/shm`` is full, and containers give 64 MB, torch's loader would wait for ever: the error
ends in a thread of the loader process that nobody listens to. So the room is looked at before
processes start, and batches move to shared memory where an error reaches the training.
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

SHARED = Path("/dev/shm")
"""Where Linux has shared memory."""

AHEAD = 4
"""Batches that a loader process prepares ahead."""

PATIENCE_S = 1800
"""Seconds without a batch after which loader processes that are alive count as hanging."""


class Batches(Protocol):
    """Where batches come from; see :mod:`regaze.training.data`.

    Batches that can be held in a file have ``keep_in(folder)`` too, for ``cache: mmap``.
    """

    def load(self, step: int) -> dict[str, Tensor]: ...

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]: ...


class LoaderError(RuntimeError):
    """Loader processes cannot hand over their batches; the message tells the ways out."""


class _Steps(Dataset):
    """Batches as a data set of steps."""

    def __init__(self, batches: Batches, start: int, end: int):
        self.batches, self.start, self.end = batches, start, end

    def __len__(self):
        return self.end - self.start

    def __getitem__(self, place: int):
        batch = self.batches.load(self.start + place)
        if get_worker_info() is not None:
            try:
                for value in batch.values():
                    value.share_memory_()
            except RuntimeError as error:
                raise LoaderError(str(error)) from error
        return batch


@contextmanager
def loading(
    batches: Batches,
    start: int,
    end: int,
    *,
    workers: int,
    pin: bool = False,
    held: int = 1,
    processes: int = 1,
) -> Iterator[Iterator[dict[str, Tensor]]]:
    """The batches of steps ``start`` to ``end``, while the block runs.

    Args:
        batches: what loads them.
        start, end: first step, and the one after the last.
        workers: loader processes; with 0 batches are loaded in this one.
        pin: load into pinned memory, for a GPU.
        held: batches that the block keeps at a time.
        processes: processes of this machine that do the same.

    Raises:
        LoaderError: shared memory is too small or full, or a loader process was killed or hangs.
    """
    need = 0
    if workers:
        need = _bytes(batches.load(start)) * (AHEAD * workers + held + 1) * processes
        if SHARED.is_dir() and shutil.disk_usage(SHARED).free < need:
            raise LoaderError(_words("too little shared memory", workers, need))
    loader = DataLoader(
        _Steps(batches, start, end),
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        prefetch_factor=AHEAD if workers else None,
        timeout=PATIENCE_S if workers else 0,
    )
    try:
        yield iter(loader)
    except RuntimeError as error:
        # Torch tells of a killed process wherever the block happens to be.
        if isinstance(error, LoaderError):
            reason = str(error).splitlines()[-1].partition(": ")[2]
        elif str(error).startswith("DataLoader "):
            reason = str(error.__cause__ or error).partition(". ")[0]
        else:
            raise
        raise LoaderError(_words(reason, workers, need)) from error


def _bytes(batch: Mapping[str, Tensor]) -> int:
    """What a batch takes of shared memory, where every tensor has pages of its own."""
    return sum(-(-value.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE for value in batch.values())


def _words(reason: str, workers: int, need: int) -> str:
    found = "none there"
    if SHARED.is_dir():
        total, _, free = shutil.disk_usage(SHARED)
        found = f"{free / 2**20:.1f} of {total / 2**20:.1f} MiB free"
    return (
        f"train.workers: {reason}; {workers} loader processes hand batches over in {SHARED}, "
        f"expected room for about {need / 2**20:.1f} MiB, found {found}; set train.workers to 0, "
        f"or give the container more (docker run --shm-size={-(-2 * need // 2**20)}m)"
    )
