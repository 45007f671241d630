"""A small finished run: faces, pairs, samples and results of five methods, two of them pseudo."""

import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import Image

from regaze.angles import angular_error
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.factors import FACTORS, LISTED, RECONSTRUCTION, pair_kinds
from regaze.metrics.bootstrap import bootstrap_mean
from regaze.normalise.rejections import Rejection, write_rejected
from regaze.pairs import draw_pairs, read_pairs, write_pairs
from regaze.report.across import DatasetEntry
from regaze.report.inputs import EstimatorEntry, ModelEntry

# Per method: gaze error at angle 0, its growth with the angle, the same for the head, eye PSNR.
SCORES = {
    "xunet": (8.0, 0.1, 3.0, 0.2, 27.0),
    "copy": (1.0, 1.0, 1.0, 1.0, 28.0),
    "lite": (4.0, 0.05, 2.0, 0.2, 31.0),
    "truth": (3.0, 0.0, 2.0, 0.0, 60.0),
    "blind": (1.5, 1.0, 2.0, 0.9, 25.0),
}
METRICS = ("gaze_error_deg", "head_error_deg", "psnr", "ssim", "eye_psnr")


def faces_file(path, persons=5, rows=8, side=32, free=False):
    """Write faces in a grid of gazes and heads; ``free`` ones repeat none and tell little else."""
    rng = np.random.default_rng(1)
    attributes = FacesAttributes("sted", (side, side), 500.0, 600.0, "ellipsoid", "synthetic")
    with FacesWriter(path, attributes) as writer:
        for number in range(persons):
            name = f"p{number:02d}"
            labels = np.zeros((rows, 8), np.float32)
            labels[:, 2:4] = np.repeat(rng.uniform(-0.3, 0.3, (rows // 4, 2)), 4, 0)
            labels[:, :2] = np.tile(rng.uniform(-0.3, 0.3, (4, 2)), (rows // 4, 1))
            pixels = np.tile(
                rng.integers(0, 255, (rows, 4, 4, 3), np.uint8), (1, side // 4, side // 4, 1)
            )
            if free:
                labels[:, :4] = rng.uniform(-0.3, 0.3, (rows, 4))
                writer.add_person(name, pixels, labels)
                continue
            writer.add_person(
                name,
                pixels,
                labels,
                file_name=[f"{name}/frames/{row:05d}.jpg" for row in range(rows)],
                source_index=np.arange(rows),
                rotation=np.tile(np.eye(3), (rows, 1, 1)),
                gaze_origin=np.zeros((rows, 3)),
                landmarks=np.full((rows, 68, 2), np.nan, np.float32),
            )


def per_pair_of(name, pairs):
    gaze, growth, head, head_growth, psnr = SCORES[name]
    rng = np.random.default_rng([2, len(name)])
    table = pairs[["pair", "person", "kind"]].copy()

    def stack(column):
        return np.stack(list(pairs[column]))

    table["angle_deg"] = angular_error(stack("source_gaze"), stack("target_gaze"))
    table["head_angle_deg"] = angular_error(stack("source_head"), stack("target_head"))
    noise = rng.uniform(0, 0.5, (2, len(table)))
    table["gaze_error_deg"] = gaze + growth * table["angle_deg"] + noise[0]
    table["head_error_deg"] = head + head_growth * table["head_angle_deg"] + noise[1]
    likeness = {"psnr": psnr + 5, "ssim": 0.9, "eye_psnr": psnr}
    for column, value in likeness.items():
        table[column] = np.where(table["kind"] == "sweep", np.nan, value + noise[0] / 100)
    return table


def metrics_of(table):
    kinds = {}
    for kind in set(pair_kinds(FACTORS)) - {LISTED, RECONSTRUCTION} - set(table["kind"]):
        reason = "no pairs of this kind were sampled"
        null = {"mean": None, "interval": None, "n": 0, "reason": reason}
        kinds[kind] = {"pairs": 0, "persons": 0, **{metric: null for metric in METRICS}}
    for kind, part in table.groupby("kind"):
        section = {"pairs": len(part), "persons": int(part["person"].nunique())}
        for metric in METRICS:
            if part[metric].isna().all():
                reason = "these pairs have no true image"
                section[metric] = {"mean": None, "interval": None, "n": 0, "reason": reason}
                continue
            found = bootstrap_mean(part[metric].to_numpy(), part["person"].to_numpy(str))
            section[metric] = {
                "mean": found.mean,
                "standard_error": found.standard_error,
                "interval": [found.low, found.high],
                "n": found.n,
            }
        section["frechet_estimator"] = {"mean": None, "n": 0, "reason": "fewer than two pairs"}
        section["lpips"] = {"mean": None, "n": 0, "reason": "no weights configured"}
        kinds[str(kind)] = section
    return {"kinds": kinds, "bootstrap": {"by": "person"}}


def model_of(name, root, results, pairs, worse=0.0):
    folder = root / results / name
    folder.mkdir(parents=True)
    table = per_pair_of(name, pairs)
    table["gaze_error_deg"] += worse
    if name == "copy":
        read = np.stack(list(pairs["source_gaze"])) + np.deg2rad([2.0 + worse, 0.0])
        table["read_gaze_pitch"], table["read_gaze_yaw"] = read.T
    table.to_parquet(folder / "per_pair.parquet")
    (folder / "metrics.json").write_text(json.dumps(metrics_of(table)))
    rng = np.random.default_rng([3, len(name)])
    with h5py.File(folder / "samples.h5", "w") as file:
        coarse = rng.integers(0, 255, (len(pairs), 4, 4, 3), np.uint8)
        file["pixels"] = coarse.repeat(4, axis=1).repeat(4, axis=2)
        file["pair"] = pairs["pair"].to_numpy()
        file.attrs["evaluations_per_image"] = 4
    speed = {"seconds_per_source": 0.0042, "seconds_per_request": 0.0104, "threads": 1}
    (folder / "speed.json").write_text(json.dumps(speed))
    model = None
    if name not in ("copy", "truth"):
        model = root / "models" / name
        model.mkdir(parents=True, exist_ok=True)
        record = {"class": "xunet", "parameters": 1012345, "told": "gaze & head", "name": name}
        (model / "model.json").write_text(json.dumps({**record, "images_seen": 800}))
        (model / "curve.csv").write_text("step,images,loss,lr,seconds\n1,8,2,1,1\n2,16,1,1,2\n")
    return ModelEntry.from_folders(name, folder, model)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    faces_file(root / "shard-000.h5")
    reader = FacesReader(root / "shard-000.h5")
    counts = {"gaze_and_head": 20, "gaze_only": 30, "head_only": 15, "sweep": 2}
    pairs = draw_pairs(reader, reader.persons, counts, seed=0, dataset="test", sweep_steps=6)
    write_pairs(root / "pairs.parquet", pairs)
    pairs = read_pairs(root / "pairs.parquet")
    models = [model_of(name, root, "evaluation", pairs) for name in SCORES]
    (root / "resnet.json").write_text(
        '{"held_out": {"list": "test", "gaze_deg": 3.63, "head_deg": 1.71, "n": 80}, '
        '"parameters": 1030000}'
    )
    estimator = EstimatorEntry("resnet", root / "resnet.json", None, "measures")
    rejected = [
        Rejection("p00", 9, "p00/frames/00009.jpg", "frame check", ""),
        Rejection("p00", 10, "p00/frames/00010.jpg", "frame check", ""),
        Rejection("p03", 9, "p03/frames/00009.jpg", "<unreadable>", ""),
    ]
    write_rejected(root / "rejected.parquet", rejected, 40)
    Image.new("RGB", (300, 200), (90, 60, 30)).save(root / "sheet.png")
    return SimpleNamespace(
        root=root, reader=reader, pairs=pairs, models=models, estimators=[estimator]
    )


@pytest.fixture(scope="session")
def abroad(finished):
    """The same methods on photos of real people: no landmarks, and free pairs only."""
    root = finished.root
    faces_file(root / "photos" / "faces" / "shard-000.h5", persons=3, free=True)
    reader = FacesReader(root / "photos" / "faces" / "shard-000.h5")
    counts = {"gaze_and_head": 12, "gaze_only": 10, "head_only": 10}
    pairs = draw_pairs(reader, reader.persons, counts, seed=0, dataset="photos")
    write_pairs(root / "photos" / "pairs.parquet", pairs)
    pairs = read_pairs(root / "photos" / "pairs.parquet")
    models = [model_of(name, root, "abroad", pairs, worse=4.0) for name in SCORES]
    return DatasetEntry("photos <1>", models, reader, pairs, [root / "rejected.parquet"])
