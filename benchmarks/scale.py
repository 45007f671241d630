"""The workflow at the size of GazeCapture: planning it, and the memory of one of its jobs.

    python benchmarks/scale.py [--persons 1474] [--rows 1000] [--folder DIR]

A data set in GazeCapture's layout is simulated: real labels for every row, one tiny JPEG that all
of them name. Printed are the seconds of ``snakemake -n`` for that many persons, 8 models and 4
data sets, and the peak memory of a process that normalises one shard, for a shard of the whole
data set and for the same shard's persons as a data set of their own. The data set is kept in
``--folder`` when one is given, and reused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
SHARDS = 64
MEASURED = """
import resource, sys, time
from regaze.normalise.stage import make_faces
source = {"source": "gazecapture", "root": sys.argv[1]}
begun = time.perf_counter()
options = {"shard": 0, "shards": int(sys.argv[3]), "frame_check": "ellipsoid"}
counts = make_faces(source, sys.argv[2] + "/s.h5", sys.argv[2] + "/r.parquet", **options)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(counts.rows_in, counts.rows_out, peak, time.perf_counter() - begun)
"""


def simulate(root: Path, persons: list[str], rows: int) -> None:
    """Write ``rows`` labels of each person and the photo that they share."""
    root.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    photo = cv2.resize(random.integers(0, 255, (8, 6, 3), np.uint8), (120, 160))
    cv2.imwrite(str(root / "photo.jpg"), photo)
    split = {part: persons[start::3] for start, part in enumerate(("train", "val", "test"))}
    (root / "split.json").write_text(json.dumps(split))
    with h5py.File(root / "supplementary.h5", "w") as file:
        for number, person in enumerate(persons):
            random = np.random.default_rng([1, number])
            pose = random.normal(size=(rows, 6)) * [0.1, 0.15, 0.05, 10, 10, 40]
            file[f"{person}/file_name"] = np.array([b"photo.jpg"] * rows)
            file[f"{person}/camera_parameters"] = np.tile([150.0, 150.0, 60.0, 80.0], (rows, 1))
            file[f"{person}/distortion_parameters"] = np.zeros((rows, 5))
            file[f"{person}/head_pose"] = pose + [0, 0, 0, 0, -20, 500]
            file[f"{person}/3d_gaze_target"] = random.normal(size=(rows, 3)) * [40, 60, 1]


def plan(folder: Path, root: Path) -> float:
    """Return the seconds of a dry run of the whole workflow."""
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    names = [f"set{number}" for number in range(4)]
    overlay = {
        "dataset": names[0],
        "shards": SHARDS,
        "datasets": {name: {"source": "gazecapture", "root": str(root)} for name in names},
        "models": {f"more{number}": default["models"]["xunet_lite"] for number in range(5)},
        "evaluation": {"datasets": names},
    }
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    parts = ["-m", "snakemake", "-n", "--quiet", "--cores", "2", "--directory", str(folder)]
    parts += ["--snakefile", str(ROOT / "Snakefile")]
    parts += ["--configfile", str(ROOT / "config.yaml"), str(folder / "overlay.yaml")]
    begun = time.perf_counter()
    subprocess.run([sys.executable, *parts], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def measure(root: Path, folder: Path, shards: int) -> list[float]:
    """Return rows in, rows out, peak memory in MB and seconds of one faces job."""
    arguments = [sys.executable, "-c", MEASURED, str(root), str(folder), str(shards)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()[-4:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persons", type=int, default=1474)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    persons = [f"{number:05d}" for number in range(options.persons)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        whole, part = folder / f"all-{options.persons}x{options.rows}", folder / "part"
        if not (whole / "supplementary.h5").exists():
            simulate(whole, persons, options.rows)
        shard = persons[0::SHARDS]
        simulate(part, shard, options.rows)
        runs = sorted(plan(folder, whole) for _ in range(3))
        print(f"snakemake -n, {options.persons} persons, 8 models, 4 data sets: {runs[1]:.1f} s")
        for name, root, shards in (("all", whole, SHARDS), ("its own", part, 1)):
            rows_in, rows_out, peak, seconds = measure(root, folder, shards)
            print(
                f"faces job of {len(shard)} persons, data set of {name}: {rows_in:.0f} rows, "
                f"{rows_out:.0f} kept, peak {peak:.0f} MB, {rows_in / seconds:.0f} rows/s"
            )


if __name__ == "__main__":
    main()
