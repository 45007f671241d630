"""Inversions: computed once by data set and inverter, read in training, and compared with."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import planning
import pytest
import yaml
from running import ROOT

from regaze.configfiles import merge

OTHERS = dict.fromkeys(
    ("xunet", "xunet_deca", "xunet_lite", "xunet_student", "regression", "sted")
    + ("redirtrans", "gazenerf", "diffusionrig_gaze", "gcgan", "gcgan_moved")
)
SMALL = {"evaluation": {"study": {"models": None}}, "augmentation": {"redirectors": []}}
TARGETS = ("inverted", "inversions", "report")
SHARDS = {f"results/synthetic/inversions/inverter/shard-00{number}.h5" for number in range(2)}


def overlay(**changes):
    """What configs/gan.yaml adds, alone, with changes of its entries."""
    config = yaml.safe_load((ROOT / "configs/gan.yaml").read_text())
    config["models"] |= OTHERS
    merge(config, SMALL)
    merge(config, {"models": changes})
    return config


def test_inversions_are_made_of_a_trained_inverter_and_read_in_training_only(tmp_path):
    plan = planning.plan(tmp_path, overlay(), TARGETS)
    weights = "results/models/inverter/model.safetensors"
    made = {name for name in plan.inputs if name.startswith("invert_shard")}
    assert {path for name in made for path in plan.outputs[name]} == SHARDS
    for name in made:
        assert {weights, "results/synthetic/split.json"} <= {*plan.inputs[name]}
    assert {*plan.inputs["train_model redirtrans_gan"]} >= SHARDS | {weights}
    sampling = {*plan.inputs["sample_model synthetic redirtrans_gan"]}
    assert weights in sampling and not sampling & SHARDS
    report = {*plan.inputs["write_report"]}
    for model in ("inverter", "redirtrans_gan"):
        assert weights in plan.inputs[f"measure_inverted synthetic {model}"]
        assert f"results/evaluation/{model}/synthetic/inverted/metrics.json" in report
    assert "results/evaluation/inverter/synthetic/inverter.png" in report


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"redirtrans_gan": {"train": {"lr": 0.001}}}, {"train_model redirtrans_gan"}),
        ({"redirtrans_gan": {"cache_inversions": False}}, {"train_model redirtrans_gan"}),
        ({"inverter": {"train": {"lr": 0.001}}}, {"train_model inverter"}),
    ],
)
def test_what_a_change_makes_anew(tmp_path, change, again):
    planning.pretend(tmp_path, overlay(), TARGETS)
    assert not planning.plan(tmp_path, overlay(), TARGETS).needed
    plan = planning.plan(tmp_path, overlay(**change), TARGETS)
    assert again <= plan.own
    inverting = any(name.startswith("invert_shard") for name in plan.needed)
    assert inverting == ("inverter" in change)


@pytest.mark.parametrize("script", ["measure_model", "measure_inverted"])
def test_codes_of_pictures_are_read_by_the_encoder_that_the_rule_names(script):
    main = runpy.run_path(str(ROOT / f"workflow_scripts/{script}.py"))["main"]
    given = {}
    main.__globals__.update(
        start=lambda job: None,
        InvertedFaces=lambda *about, **more: None,
        measure_files=lambda *data, **options: given.update(options),
    )
    read = {"encoder": ["models/deca/model.safetensors"], "head": "face3d/head.npz"}
    names = ("samples", "pairs", "faces", "estimator", "inverter")
    params = {"seed": 0, "resamples": 1, "assets": {}, "published": None}
    job = SimpleNamespace(
        input=Named({**read, **dict.fromkeys(names, ["models/x/model.safetensors"])}),
        params=Named(params),
        output={},
        threads=1,
    )
    main(job)
    assert given["encoder"] == {"head": "face3d/head.npz", "folder": Path("models/deca")}


class Named(dict):
    """Files or parameters by name, as a job has them."""

    __getattr__ = dict.__getitem__
