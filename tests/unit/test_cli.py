"""The command line: schema, configuration checks, DVC, files of users, averaged weights."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from regaze.cli import app
from regaze.training.averages import PowerAverages

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_schema_is_printed_and_compared(tmp_path):
    printed = run("schema")
    assert printed.exit_code == 0
    (tmp_path / "schema.json").write_text(printed.output)
    assert run("schema", "--check", tmp_path / "schema.json").exit_code == 0
    (tmp_path / "schema.json").write_text("{}")
    stale = run("schema", "--check", tmp_path / "schema.json")
    assert stale.exit_code != 0 and "make schema" in stale.output


def test_overlays_are_merged_before_they_are_checked(tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("models: {xunet: {train: {images: 10}}}")
    bad.write_text("models: {xunet: {train: {imges: 10}}}")
    models = len(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["models"])
    assert f"valid: {models} models" in run("validate", ROOT / "config.yaml", good).output
    refused = run("validate", ROOT / "config.yaml", bad)
    assert refused.exit_code != 0 and "models.xunet.train.imges: unknown key" in refused.output
    bad.write_text("- 1")
    assert "expected a mapping, found list" in run("validate", bad).output


def test_inspect_prints_or_fails_in_one_line(tmp_path):
    (tmp_path / "split.json").write_text('{"train": ["a"], "val": [], "test": ["b"]}')
    found = run("inspect", tmp_path / "split.json")
    assert found.exit_code == 0 and "split of a data set" in found.output
    (tmp_path / "half.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    refused = run("inspect", tmp_path / "half.h5")
    assert refused.exit_code == 1 and "half.h5: expected readable HDF5" in refused.output
    assert len(refused.output.strip().splitlines()) == 1


def test_dvc_is_printed_and_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = (ROOT / "config.yaml").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    printed = run("dvc")
    assert printed.exit_code == 0
    stages = yaml.safe_load(printed.output)["stages"]
    assert {f"evaluate-{name}" for name in yaml.safe_load(config)["models"]} <= set(stages)
    (tmp_path / "dvc.yaml").write_text(printed.output, encoding="utf-8")
    assert run("dvc", "--check", "dvc.yaml").exit_code == 0
    study = run("dvc", "--check", "dvc.yaml", "--augmentation")
    assert study.exit_code == 1
    assert "dvc.yaml does not describe config.yaml" in study.output
    assert "run `regaze dvc --augmentation > dvc.yaml`" in study.output
    missing = run("dvc", "config.yaml", "--check", "none.yaml")
    assert missing.exit_code == 1 and "run `regaze dvc config.yaml > none.yaml`" in missing.output


def test_a_result_without_records_ends_in_one_line(tmp_path):
    refused = run("provenance", tmp_path / "metrics.json")
    assert refused.exit_code == 1
    assert "metrics.json: expected a folder results/provenance beside it" in refused.output
    assert len(refused.output.strip().splitlines()) == 1


def test_assets_are_listed_and_only_wrong_ones_fail(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").write_bytes(b"mine")
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    digest = hashlib.sha256(b"mine").hexdigest()
    config["assets"] = {"lpips_vgg16": {"path": "mine.pth", "sha256": digest}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    well = run("assets")
    assert well.exit_code == 0
    assert f"present  lpips_vgg16: mine.pth (SHA-256 {digest} agrees)" in well.output
    assert "missing  lpips_alexnet: assets/lpips/alexnet-owt-7be5be79.pth (no such" in well.output
    assert "         for the metric lpips; torchvision's AlexNet_Weights" in well.output
    (tmp_path / "over.yaml").write_text("assets: {inception: {path: mine.pth}}")
    wrong = run("assets", "config.yaml", "over.yaml")
    assert wrong.exit_code == 1
    assert "wrong    inception: mine.pth (expected SHA-256 beginning with 6726825d" in wrong.output


@pytest.fixture
def averaged(tmp_path):
    """A trained model of one layer with snapshots of two averages."""
    network, model = nn.Linear(2, 1), tmp_path / "results/models/toy"
    averages = PowerAverages(network, (0.05, 0.10), tmp_path / "results/state/toy/ema/abc")
    for images in (10, 20, 30):
        nn.init.constant_(network.weight, images)
        averages.update(network, images, 10)
        averages.snapshot(images)
    model.mkdir(parents=True)
    save_file(network.state_dict(), model / "model.safetensors")
    (model / "model.json").write_text(json.dumps({"name": "toy", "snapshots": "abc"}))
    return model


def test_weights_of_another_width_stand_beside_the_models(averaged):
    done = run("posthoc-ema", averaged, "--std", 0.08)
    out = averaged.with_name("toy-std0.08")
    assert done.exit_code == 0, done.output
    assert done.output == f"{out}: std 0.08 at 30 images, mixed from 6 snapshots\n"
    weights = load_file(out / "model.safetensors")["weight"]
    assert torch.all((weights > 10) & (weights < 30))
    early = run(
        "posthoc-ema", averaged, "--std", 0.08, "--images", 20, "--out", averaged.parent / "early"
    )
    assert "early: std 0.08 at 20 images, mixed from 4 snapshots" in early.output


def test_weights_that_cannot_be_averaged_end_in_one_line(averaged, tmp_path):
    for line, words in (
        (["--out", averaged], "expected another folder than the model's own"),
        (["--state", tmp_path / "none"], "expected snapshots of averaged weights, found none"),
    ):
        refused = run("posthoc-ema", averaged, "--std", 0.08, *line)
        assert refused.exit_code == 1 and words in refused.output
        assert len(refused.output.strip().splitlines()) == 1
