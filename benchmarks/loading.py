"""Pairs per second that training batches are delivered at, against what training takes.

    python benchmarks/loading.py --faces 5000

Patches of noise-like pictures (128 px, a chunk each, gzip) stand for real ones. Batches come as the
training loop gets them: through its loader, uint8, the random draws included, and go no further.
Seconds are wall-clock seconds after the first batches. Needs: a GPU that trains at R images/s takes
R pairs/s.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.redirectors.pairs import PairBatches
from regaze.training.loader import _Steps

SIDE, PER_PERSON = 128, 50
RATES = (500, 1000, 2000)


def write(path: Path, faces: int) -> None:
    """Smooth pictures with a little noise, which compress about as photos do."""
    rng = np.random.default_rng(0)
    attributes = FacesAttributes("sted", (SIDE, SIDE), 960.0, 600.0, "none", "synthetic")
    with FacesWriter(path, attributes) as writer:
        for person in range(faces // PER_PERSON):
            coarse = rng.integers(30, 220, (PER_PERSON, 8, 8, 3))
            pixels = coarse.repeat(16, 1).repeat(16, 2) + rng.integers(
                -6, 7, (PER_PERSON, SIDE, SIDE, 3)
            )
            labels = rng.uniform(-0.4, 0.4, (PER_PERSON, 8)).astype(np.float32)
            writer.add_person(f"p{person:05d}", pixels.astype(np.uint8), labels)


def rate(path: Path, folder: Path, cache: str, workers: int, batch: int, steps: int) -> float:
    """Pairs per second; the first batches, which start workers, are not counted."""
    reader = FacesReader(path)
    source = PairBatches(reader, reader.persons, size=64, batch=batch, seed=0, cache=cache)
    if cache == "mmap":
        source.keep_in(folder)
    loader = DataLoader(
        _Steps(source, 0, steps + 2 * max(workers, 1)),
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )
    stream = iter(loader)
    for _ in range(2 * max(workers, 1)):
        next(stream)
    # What was prepared ahead while others started would be counted as delivered at once.
    began, done = time.perf_counter(), 0
    for one in stream:
        done += len(one["source"])
    return done / (time.perf_counter() - began)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=5000, help="patches in the file")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "faces.h5")
        write(path, given.faces)
        print(f"{given.faces} patches of {SIDE} px, {path.stat().st_size / 2**20:.0f} MiB")
        print("cache   workers  pairs/s  enough for GPUs at")
        for cache in ("memory", "mmap", "none"):
            for workers in (0, 2, 4):
                found = rate(path, Path(folder), cache, workers, given.batch, given.steps)
                enough = ", ".join(str(r) for r in RATES if found >= r) or "none of them"
                print(f"{cache:7} {workers:7}  {found:7.0f}  {enough}")


if __name__ == "__main__":
    main()
