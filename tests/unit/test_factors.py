"""A factor is evaluated like gaze and head once it has a row; files with old words are read."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.factors import CODED, FACTORS, KINDS, compared_kinds, current_kind, pair_kinds
from regaze.pairs import draw_pairs, read_pairs, write_pairs
from regaze.report.inputs import read_metrics, read_per_pair
from regaze.report.settings import PairCounts, StudySettings

# A third row: how bright a picture is, read from the picture itself.
LIGHT = r"""
import sys
from pathlib import Path

import numpy as np

from regaze import factors

def brightness(pixels):
    return pixels.mean((1, 2, 3), keepdims=True)[:, :, 0, 0].astype(np.float32)

factors.FACTORS["glow"] = factors.Factor(
    "glow", "Glow", "glow", "how much brighter or darker than asked for",
    labels=lambda faces, rows: brightness(faces.pixels(rows)),
    read=lambda reading: brightness(reading.pixels),
    difference=lambda a, b: np.abs(np.asarray(a) - b)[:, 0],
    moved="glow_moved", keeps=("gaze", "head"), unit=" levels", suffix="levels", parts=("",),
    same=8.0, turn=None, dial=factors.Dial((20.0,), steps=3),
)
factors.KINDS.update(factors.pair_kinds(factors.FACTORS))

import torch
from torch import nn

from regaze.estimators.base import GazeHeadEstimator
from regaze.faces import FacesReader
from regaze.metrics import measure
from regaze.metrics.induced import INDUCED
from regaze.pairs import draw_pairs, write_pairs
from regaze.redirectors.sample import sample_pseudo_model
from regaze.report import tables
from regaze.report.grids import redirection_grid
from regaze.report.inputs import ModelEntry, read_results
from regaze.report.verdict import verdict
from regaze.report.settings import PairCounts

class Still(GazeHeadEstimator):
    arch, preset, size_px, preprocess, fingerprint, record = "s", "tiny", 32, "none", "s", {}
    embedding_size = 4

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def embed(self, images):
        return images[:, 0, 0, :4]

    def head(self, embedding):
        return 0 * embedding

root = Path(sys.argv[1])
reader = FacesReader(root / "f.h5")
counts = PairCounts(gaze_and_head=6, gaze_only=0, head_only=0, glow_only=4, sweep=0, glow_sweep=1)
counts = {name: counts.model_dump()[name] for name in factors.pair_kinds(factors.FACTORS)}
pairs = draw_pairs(reader, ["a", "b"], counts, seed=0, dataset="d")
write_pairs(root / "pairs.parquet", pairs)
measure.load_estimator = lambda folder: Still()
entries = []
for name in ("truth", "copy", "mine"):
    folder = root / name
    sample_pseudo_model("copy" if name == "copy" else "truth", faces=[root / "f.h5"],
        pairs=root / "pairs.parquet", size_px=32, samples=folder / "samples.h5",
        speed=folder / "speed.json")
    measure.measure_files(folder / "samples.h5", root / "pairs.parquet", [root / "f.h5"], "any",
        metrics=folder / "metrics.json", per_pair=folder / "per_pair.parquet")
    entries.append(ModelEntry.from_folders(name, folder))
results = read_results(entries)
tables.write_comparison(root / "comparison.csv", tables.comparisons({"d": results}))
stores = {"mine": root / "mine/samples.h5"}
redirection_grid(reader, pairs, stores, root / "grid.png", kind="glow_only", n=2,
    per_pair_by_model={"mine": root / "mine/per_pair.parquet"})
(root / "verdict.txt").write_text("\n".join([verdict(results).headline, *verdict(results).details]))
(root / "induced.txt").write_text(" ".join(INDUCED))
"""


def faces(path):
    labels = np.zeros((6, 8), np.float32)
    labels[:, :4] = np.repeat(np.radians([[4, -6, 1, 2], [9, 3, 1, 2]]), 3, 0)
    attributes = FacesAttributes("sted", (32, 32), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(path, attributes) as writer:
        for person, start in (("a", 40), ("b", 90)):
            levels = start + 30 * np.arange(6, dtype=np.uint8) % 90
            pixels = np.broadcast_to(levels[:, None, None, None], (6, 32, 32, 3)).copy()
            writer.add_person(person, pixels, labels)
    return path


def test_a_row_gives_pairs_metrics_tables_a_dial_and_a_verdict(tmp_path):
    faces(tmp_path / "f.h5")
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pairs = pq.read_table(tmp_path / "pairs.parquet").to_pandas()
    only = pairs[pairs["kind"] == "glow_only"]
    assert len(only) == 4
    for row in only.itertuples():
        np.testing.assert_array_equal(row.source_gaze, row.target_gaze)
        assert abs(row.source_glow[0] - row.target_glow[0]) >= 8
    swept = pairs[pairs["kind"] == "glow_sweep"]
    wanted = [0, 20 * np.sin(2 * np.pi / 3), -20 * np.sin(2 * np.pi / 3)]
    assert np.allclose(np.concatenate(swept["target_glow"].to_list()), wanted, atol=1e-5)
    content = {
        name: json.loads((tmp_path / name / "metrics.json").read_text())["kinds"]["glow_only"]
        for name in ("truth", "copy")
    }
    moved = np.abs([row.source_glow[0] - row.target_glow[0] for row in only.itertuples()]).mean()
    assert content["truth"]["glow_error_levels"]["mean"] == 0
    assert content["copy"]["glow_error_levels"]["mean"] == pytest.approx(moved, abs=0.01)
    assert content["copy"]["glow_vs_truth_levels"]["mean"] == pytest.approx(moved, abs=0.01)
    rows = pd.read_parquet(tmp_path / "copy/per_pair.parquet")
    assert {"glow_moved", "glow_error_levels", "read_glow"} <= set(rows)
    assert "glow_error_levels" in pd.read_csv(tmp_path / "comparison.csv")
    said = (tmp_path / "verdict.txt").read_text()
    assert "On glow-only pairs the best is: glow 0.0 levels (mine; source" in said
    assert "gaze_to_glow_levels" in (tmp_path / "induced.txt").read_text().split()
    assert (tmp_path / "grid.png").stat().st_size > 500


def test_kinds_follow_the_factors_and_keep_their_seeds():
    plain = pair_kinds(FACTORS)
    drawn = ["gaze_and_head", "gaze_only", "head_only", "sweep", "gazenerf_paper", "reconstruction"]
    assert list(plain) == drawn
    coded = [f"{name}_only" for name in CODED]
    assert set(KINDS) == {*plain, *coded}
    assert compared_kinds() == ("gaze_only", "head_only", *coded, "gaze_and_head", "reconstruction")
    # Other seeds would draw other pairs than have been published.
    assert [kind.seed for kind in plain.values()] == ["free", *drawn[1:]]
    assert all(KINDS[name].seed == kind.seed for name, kind in plain.items())
    fewer = pair_kinds({"head": FACTORS["head"]} | {"gaze": FACTORS["gaze"]})
    assert set(fewer) == set(plain)


def test_files_with_the_old_word_are_read(tmp_path):
    reader = FacesReader(faces(tmp_path / "f.h5"))
    pairs = draw_pairs(reader, ["a", "b"], {"gaze_and_head": 3}, seed=0, dataset="d")
    write_pairs(tmp_path / "old.parquet", pairs.assign(kind="free"))
    pd.testing.assert_frame_equal(read_pairs(tmp_path / "old.parquet"), pairs)
    pairs[["pair", "person"]].assign(kind="free").to_parquet(tmp_path / "per_pair.parquet")
    assert set(read_per_pair(tmp_path / "per_pair.parquet")["kind"]) == {"gaze_and_head"}
    (tmp_path / "metrics.json").write_text('{"kinds": {"free": {"psnr": {"mean": 20.0}}}}')
    assert read_metrics(tmp_path / "metrics.json") == {"gaze_and_head": {"psnr": {"mean": 20.0}}}


def test_settings_with_the_old_word_are_read():
    # An overlay of before on top of the configuration of now.
    assert PairCounts(gaze_and_head=200, free=6).gaze_and_head == 6
    assert PairCounts(free=7).model_dump()["gaze_and_head"] == 7
    assert StudySettings(kind="free").kind == "gaze_and_head"
    assert current_kind("sweep") == "sweep" and current_kind(3) == 3
    with pytest.raises(ValueError, match="Extra inputs"):
        PairCounts(fre=3)
