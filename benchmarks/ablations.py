"""What each ingredient of the `small` recipe is worth: leave one out, train, measure.

Needs a finished `make reproduce` (its faces, pairs and evaluation estimator). Prints one Markdown
row per variant: the same network, images, seed and pairs, one option changed.

    python benchmarks/ablations.py --images 6400 --only recipe no-warp
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path

import yaml

from regaze.metrics.measure import measure_samples
from regaze.redirectors.sample import sample_redirector
from regaze.redirectors.train import TrainingData, train_redirector
from regaze.settings import load_settings
from regaze.training.context import ModelFiles

ROOT = Path(__file__).parents[1]
VARIANTS = {
    "recipe": {},
    "no-same-head-pairs": {"objective": {"same_head_fraction": 0.0}},
    "no-eye-weight": {"objective": {"eye_weight": 0.0}},
    "low-noise": {"objective": {"lnsigma_mean": -1.2, "lnsigma_std": 1.2}},
    "no-warp": {"objective": {"base": "source"}},
    "edm-output": {"objective": {"parameterization": "edm", "base": "none"}},
    "no-unshuffle": {"network": {"unshuffle": 1}},
    "two-frames": {"network": {"frames": 2}},
    "two-frames-no-concat": {"network": {"frames": 2, "concat_source": False}},
}
COLUMNS = (
    ("gaze_only", "gaze_error_deg"),
    ("gaze_only", "eye_psnr"),
    ("gaze_only", "psnr"),
    ("gaze_and_head", "gaze_error_deg"),
    ("gaze_and_head", "head_error_deg"),
)


def measure(name: str, options: dict, images: int, results: Path) -> str:
    """Train and measure one variant; return its table row."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    entry = copy.deepcopy(config["models"]["xunet_lite"])
    entry["train"] |= {"images": images, "tensorboard": False}
    for section, changes in options.items():
        entry[section] = entry.get(section, {}) | changes
    config["models"] = {"variant": entry}
    settings = load_settings(config)
    data = results / settings.dataset
    faces = sorted(map(str, (data / "faces").glob("shard-*.h5")))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began = time.process_time()
        train_redirector(
            "variant",
            settings.models["variant"].resolve(),
            TrainingData(faces=faces, split=str(data / "split.json")),
            seed=settings.seed,
            files=ModelFiles(
                model=folder / "model.safetensors",
                record=folder / "model.json",
                curve=folder / "curve.csv",
                state=folder / "state",
            ),
        )
        spent = time.process_time() - began
        samples, pairs = folder / "samples.h5", data / "pairs.parquet"
        sample_redirector(
            folder,
            faces=faces,
            pairs=pairs,
            sampling=settings.sampling_of("variant"),
            samples=samples,
            speed=folder / "speed.json",
        )
        judge = results / "models" / settings.evaluation.estimator
        kinds = measure_samples(samples, pairs, faces, judge)[0]["kinds"]
    values = " | ".join(f"{kinds[kind][key]['mean']:.2f}" for kind, key in COLUMNS)
    return f"| {name} | {spent:.0f} | {values} |"


def main() -> None:
    """Run the chosen variants one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6400, help="training images per variant")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    print("| variant | CPU s | " + " | ".join(f"{kind}: {key}" for kind, key in COLUMNS) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for name in options.only:
        print(measure(name, VARIANTS[name], options.images, options.results), flush=True)


if __name__ == "__main__":
    main()
