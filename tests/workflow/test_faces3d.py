"""3-D faces through the real DAG: an encoder is trained, its codes belong to the faces."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from running import ROOT, planned, snakemake
from typer.testing import CliRunner

from regaze.cli import app
from regaze.codes.latents import LatentsReader
from regaze.faces import FacesReader
from regaze.masks import MasksReader


@pytest.fixture(scope="module")
def faces(finished):
    return FacesReader(sorted((finished / "results/synthetic/faces").glob("shard-*.h5")))


def test_latents_belong_to_the_faces(finished, faces):
    parts = sorted((finished / "results/synthetic/latents/deca").glob("part-*.parquet"))
    latents = LatentsReader(parts, faces=faces)
    codes = latents.read(np.arange(len(faces)))
    assert codes["shape"].shape == (len(faces), 100) and codes["light"].shape == (len(faces), 27)
    assert latents.detected.all()
    assert latents.identity["encoder"] == "deca-tiny"
    record = json.loads((finished / "results/models/deca/model.json").read_text())
    assert record["head_sha256"] == latents.identity["head_sha256"]
    assert 0 < record["quality"]["landmark_px"] < 32
    with Image.open(finished / "results/models/deca/quality.png") as sheet:
        assert min(sheet.size) > 200
    assert "3-D faces" in (finished / "results/report/index.html").read_text()


def test_published_weights_are_not_trained(tmp_path):
    entry = "encoders={deca: {preset: reference, checkpoint: data/deca_model.tar}}"
    arguments = ("-n", "--config", entry, "--", "latents")
    done = snakemake(tmp_path, *arguments)
    assert done.returncode != 0 and "data/deca_model.tar" in done.output
    (tmp_path / "data").mkdir()
    (tmp_path / "data/deca_model.tar").touch()
    jobs = planned(snakemake(tmp_path, *arguments))
    assert jobs["encode_shard"] == 2 and "train_deca" not in jobs


def test_published_weights_on_another_head_end_the_run_before_its_jobs(tmp_path):
    (tmp_path / "deca_model.tar").touch()
    entry = "encoders={deca: {preset: reference, checkpoint: deca_model.tar}}"
    done = snakemake(tmp_path, "--config", entry, "--", "latents")
    assert done.returncode != 0
    assert "encoders.deca.checkpoint: expected FLAME 2020 as head model" in done.output
    assert "found the procedural head" in done.output and not (tmp_path / "results").exists()


def test_masks_and_a_mesh_on_demand(finished, faces, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    done = snakemake(folder, "--", "masks")
    assert done.returncode == 0, done.output[-3000:]
    shards = sorted((folder / "results/synthetic/masks").glob("shard-*.h5"))
    masks = MasksReader(shards, faces).read(np.arange(len(faces)), ["head", "eyes"])
    assert masks["head"].mean() > 0.2
    assert 0.002 < masks["eyes"].mean() < 0.1
    assert not (masks["eyes"] & ~masks["head"]).any()

    shard = sorted((folder / "results/synthetic/faces").glob("shard-*.h5"))[0]
    person = FacesReader(shard).persons[0]
    line = ["face3d", f"{shard}:{person}/0", "--out", "made"]
    line += ["--config", str(ROOT / "config.yaml"), "--config", str(ROOT / "configs/tiny.yaml")]
    monkeypatch.chdir(folder)
    made = CliRunner().invoke(app, line)
    assert made.exit_code == 0, made.output
    (mesh,) = (folder / "made").rglob("mesh_coarse.obj")
    assert mesh.read_text().count("\nf ") > 1000
    assert (mesh.parent / "turntable.gif").stat().st_size > 10_000
