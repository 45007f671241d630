"""What DiffusionRig's second stage is worth: models of one person on albums of several sizes.

    snakemake --cores 2 --configfile config.yaml configs/diffusionrig.yaml -- \
        results/album/{split.json,latents/deca/part-00{0,1}.parquet} \
        results/models/{identity,resnet,diffusionrig_gaze}/model.json
    OMP_NUM_THREADS=1 python benchmarks/albums.py

Every tested person of the data set `album` has 20 pictures in an album; all others are held out.
Stage 1 and the models of stage 2 reconstruct and redirect the same held-out pictures, and the
recogniser says how much they are the person: the cosine to the true picture. Intervals, 95 %, are
by resampling persons; differences are of the same pairs. Times are the process's own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from clock import now

from regaze.albums import draw_albums, write_albums
from regaze.faces import FacesReader
from regaze.metrics.bootstrap import bootstrap_mean
from regaze.metrics.measure import measure_files
from regaze.pairs import draw_pairs, write_pairs
from regaze.redirectors.declaration import Sampling, sampling_defaults
from regaze.redirectors.inputs import NetworkFile
from regaze.redirectors.personal import gather_albums, train_albums
from regaze.redirectors.sample import sample_redirector
from regaze.redirectors.train import TrainingData
from regaze.weights import read_record

KINDS = ("reconstruction", "gaze_and_head")
NUMBER = "identity_similarity"


class Study:
    """Files of the study; see the module."""

    def __init__(self, given):
        self.given, self.out, results = given, given.out, given.results
        given.out.mkdir(parents=True, exist_ok=True)
        root = results / given.dataset
        self.faces = [str(path) for path in sorted(root.glob("faces/shard-*.h5"))]
        codes = [str(path) for path in sorted(root.glob("latents/deca/part-*.parquet"))]
        self.inputs = {"codes": codes, "crops": self.faces}
        # Models look for the encoder beside their own folders.
        if not (beside := given.out / "deca").exists():
            beside.symlink_to((results / "models/deca").resolve())
        face = NetworkFile(str(results / "models/deca"), {}, str(results / "face3d/head.npz"))
        split = root / "split.json"
        self.data = TrainingData(self.faces, str(split), self.inputs, {"face": face})
        self.persons = json.loads(split.read_text())["test"]
        self.albums, self.pairs = given.out / "albums.json", given.out / "pairs.parquet"

    def draw(self):
        """Albums, and pairs of what is in none."""
        reader, common = FacesReader(self.faces), {"seed": 0, "dataset": self.given.dataset}
        size = max(self.given.sizes)
        albums = draw_albums(reader, self.persons, size=size, people=self.given.persons, **common)
        write_albums(self.albums, albums)
        counts = dict.fromkeys(KINDS, self.given.pairs)
        write_pairs(self.pairs, draw_pairs(reader, self.persons, counts, albums=albums, **common))

    def trained(self, size):
        """The folder of models of stage 2 on albums of so many pictures, and seconds per person."""
        given, name = self.given, f"album-{size}"
        stage1 = given.results / "models" / given.model
        config = read_record(stage1 / "model.json")["config"]
        train = {**config["train"], "images": given.images, "batch": 4, "lr": given.rate}
        train |= {"warmup_images": 0, "ema_halflife_images": given.images // 8}
        train |= {"transfer": str(stage1 / "model.safetensors"), "validate_every_images": 0}
        config = {**config, "stage": 2, "mean_shape": True, "train": train}
        folder, start = self.out / name, now("cpu")
        told = {"albums": self.albums, "size": size, "shard": 0, "shards": 1, "seed": 0}
        files = {"folder": folder / "album-000", "state": self.out / f"{name}-state"}
        train_albums(name, config, self.data, **told, **files)
        gather_albums(name, [files["folder"]], folder / "model.json", folder / "curve.csv")
        return folder, (now("cpu") - start) / len(json.loads(self.albums.read_text()))

    def measured(self, folder, name):
        """Per pair what was measured of a model's pictures."""
        sampling = {**Sampling().model_dump(), **sampling_defaults("diffusionrig")}
        sampling |= {"kept": self.given.kept, "steps": len(self.given.kept)}
        files = {one: self.out / f"{name}-{one}" for one in ("samples.h5", "speed.json")}
        made = {"samples": files["samples.h5"], "speed": files["speed.json"]}
        common = {"faces": self.faces, "pairs": self.pairs, "size_px": 64}
        sample_redirector(folder, sampling=sampling, inputs=self.inputs, **common, **made)
        models, table = self.given.results / "models", self.out / f"{name}.parquet"
        measure_files(
            made["samples"],
            self.pairs,
            self.faces,
            models / "resnet",
            metrics=self.out / f"{name}.json",
            per_pair=table,
            identity=models / "identity",
        )
        return pd.read_parquet(table)


def interval(values, persons):
    """A mean with its interval, as text."""
    found = bootstrap_mean(np.asarray(values), np.asarray(persons, str), seed=0, resamples=1000)
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def rows(name, seconds, table, first):
    """Lines of the table of one model."""
    for kind in KINDS:
        own = table[table["kind"] == kind].set_index("pair")
        before = first[first["kind"] == kind].set_index("pair").loc[own.index]
        gained = interval(own[NUMBER] - before[NUMBER], own["person"])
        cells = [name, f"{seconds:.0f}", kind, interval(own[NUMBER], own["person"]), gained]
        cells += [f"{own[one].mean():.1f}" for one in ("psnr", "gaze_error_deg", "head_error_deg")]
        yield "| " + " | ".join(cells) + " |"


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--dataset", default="album")
    parser.add_argument("--model", default="diffusionrig_gaze", help="of stage 1")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 5, 1])
    parser.add_argument("--persons", type=int, help="so many; default: all with enough pictures")
    parser.add_argument("--images", type=int, default=800, help="seen in a training of stage 2")
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate")
    parser.add_argument("--pairs", type=int, default=60, help="of each kind")
    parser.add_argument("--kept", type=int, nargs="+", default=[300, 900], help="steps")
    parser.add_argument("--out", type=Path, default=Path("build/albums"))
    study = Study(parser.parse_args())
    study.draw()
    print(
        "| model | CPU s per person | pairs | identity | gained on stage 1 | PSNR | gaze | head |"
    )
    print("|---|---|---|---|---|---|---|---|")
    first = study.measured(study.given.results / "models" / study.given.model, "stage-1")
    print(*rows("stage 1", 0, first, first), sep="\n", flush=True)
    for size in study.given.sizes:
        folder, seconds = study.trained(size)
        table = study.measured(folder, folder.name)
        print(*rows(f"album of {size}", seconds, table, first), sep="\n", flush=True)


if __name__ == "__main__":
    main()
