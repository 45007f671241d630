"""Measuring one model's samples with every metric that needs no download: time and memory.

    OMP_NUM_THREADS=2 python benchmarks/metrics.py [--pairs 1000] [--threads 2]

Drawn faces of 40 persons, redirected pictures of 64 px, the embedded default's networks with
random weights (their speed is that of trained ones). Printed are seconds, CPU seconds and peak
memory for ``--pairs`` and for twice as many pairs, each in a process of its own, and what the
process takes before it measures. Budget: 1,000 pairs within 180 s on 2 cores, no more memory for
twice the pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from regaze.estimators.build import build_estimator
from regaze.faces import FacesAttributes, FacesWriter
from regaze.identity.store import build_recogniser
from regaze.pairs import KINDS, write_pairs

PERSONS, ROWS, SIZE = 40, 16, 64
BUDGET_SECONDS = 180
MEASURED = """
import resource, sys, time
import torch
from regaze.metrics.measure import measure_files
torch.set_num_threads(int(sys.argv[2]))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
folder, before = sys.argv[1], peak()
begun, cpu = time.perf_counter(), time.process_time()
measure_files(
    f"{folder}/samples.h5", f"{folder}/pairs.parquet", [f"{folder}/faces.h5"], f"{folder}/judge",
    identity=f"{folder}/identity", metrics=f"{folder}/m.json", per_pair=f"{folder}/p.parquet",
)
print(time.perf_counter() - begun, time.process_time() - cpu, before, peak())
"""


def prepare(folder: Path, count: int) -> None:
    """Write faces, pairs, samples and untrained networks."""
    rng = np.random.default_rng(0)
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "drawn")
    labels = {}
    with FacesWriter(folder / "faces.h5", attributes) as writer:
        for number in range(PERSONS):
            person = f"{number:03d}"
            coarse = rng.integers(0, 256, (ROWS, 16, 16, 3), np.uint8)
            labels[person] = rng.uniform(-0.4, 0.4, (ROWS, 8)).astype(np.float32)
            writer.add_person(person, coarse.repeat(8, 1).repeat(8, 2), labels[person])
    rows = []
    for pair in range(count):
        person = f"{rng.integers(PERSONS):03d}"
        source, target = rng.choice(ROWS, 2, replace=False)
        row = {"pair": pair, "person": person, "source_index": source, "target_index": target}
        for side, index in (("source", source), ("target", target)):
            row[f"{side}_gaze"] = labels[person][index, :2]
            row[f"{side}_head"] = labels[person][index, 2:4]
        rows.append({**row, "kind": KINDS[pair % 3]})
    write_pairs(folder / "pairs.parquet", pd.DataFrame(rows))
    with h5py.File(folder / "samples.h5", "w") as file:
        shape = (count, SIZE, SIZE, 3)
        pixels = file.create_dataset("pixels", shape, np.uint8, chunks=(1, *shape[1:]))
        for start in range(0, count, 100):
            part = min(100, count - start)
            pixels[start : start + part] = rng.integers(0, 256, (part, *shape[1:]), np.uint8)
        file["pair"] = np.arange(count)
    torch.manual_seed(0)
    judge, recogniser = build_estimator("resnet", "small"), build_recogniser("small", SIZE)
    records = {
        "judge": (judge, {"kind": "estimator", "name": "judge", "config": judge.config()}),
        "identity": (
            recogniser,
            {"kind": "identity", "config": {"network": "small", "size_px": SIZE}},
        ),
    }
    for name, (network, record) in records.items():
        (folder / name).mkdir()
        save_file(network.state_dict(), folder / name / "model.safetensors")
        (folder / name / "model.json").write_text(json.dumps(record))


def measure(count: int, threads: int) -> tuple[float, ...]:
    """Return seconds, CPU seconds, MiB before and peak MiB of a process that measures ``count``."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), count)
        command = [sys.executable, "-c", MEASURED, folder, str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()[-4:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    found = {}
    for count in (options.pairs, 2 * options.pairs):
        found[count] = measure(count, options.threads)
        text = "{} pairs: {:.1f} s, CPU {:.1f} s, {:.0f} MiB before, peak {:.0f} MiB"
        print(text.format(count, *found[count]), flush=True)
    one, two = found.values()
    budget = BUDGET_SECONDS * options.pairs / 1000
    print(f"share of the time budget: {one[0] / budget:.2f}")
    print(f"peak memory of twice the pairs: {two[3] / one[3]:.3f} times")


if __name__ == "__main__":
    main()
