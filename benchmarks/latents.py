"""Faces encoded per second on one core: the networks alone, and from faces file to parquet.

    OMP_NUM_THREADS=1 python benchmarks/latents.py [--faces 2000] [--repeats 3]

Weights are random, which costs the same as trained ones; faces are pictures of noise with the
landmarks of one face, of 128 x 128 pixels. Medians of the repeats.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from regaze.capture import build_head
from regaze.face3d.deca import Deca
from regaze.face3d.encode import encode_shard
from regaze.faces import FacesAttributes, FacesWriter


def seconds(action, repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def write_faces(path: Path, count: int) -> None:
    """Write ``count`` faces of 20 persons."""
    random = np.random.default_rng(0)
    landmarks = random.uniform(30, 100, (68, 2)).astype(np.float32)
    with FacesWriter(path, FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "x")) as file:
        for person in range(20):
            rows = count // 20
            pixels = random.integers(0, 255, (rows, 128, 128, 3), np.uint8)
            labels = np.zeros((rows, 8), np.float32)
            file.add_person(
                f"{person:02d}", pixels, labels, landmarks=np.tile(landmarks, (rows, 1, 1))
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = build_head()
    with tempfile.TemporaryDirectory() as folder:
        faces = Path(folder) / "faces.h5"
        write_faces(faces, options.faces)
        for preset in ("small", "reference"):
            deca = Deca(head, preset).eval()
            count = 256 if preset == "small" else 16
            crops = torch.rand(count, 3, deca.size_px, deca.size_px)
            with torch.no_grad():
                alone = seconds(lambda d=deca, c=crops: d.encode(c), options.repeats)
            print(f"{preset}: network {count / alone:.0f} images/s at {deca.size_px} px")
            if preset == "small":
                whole = seconds(
                    lambda d=deca: encode_shard(faces, d, Path(folder) / "out.parquet"),
                    options.repeats,
                )
                rate = options.faces / whole
                print(f"{preset}: {options.faces} faces to parquet {whole:.1f} s, {rate:.0f}/s")


if __name__ == "__main__":
    main()
