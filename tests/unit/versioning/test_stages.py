"""Stages of dvc.yaml for configurations that differ from the default."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from regaze.configfiles import merge
from regaze.redirectors.declaration import Input
from regaze.redirectors.xunet import settings as xunet
from regaze.versioning import dvc_yaml

ROOT = Path(__file__).parents[3]
PHOTOS = {"source": "folder", "root": "data/photos"}


def stages(change, augmentation=False):
    """Stages of the default configuration with a change on top."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    merge(config, yaml.safe_load(yaml.safe_dump(change)))
    return yaml.safe_load(dvc_yaml(config, augmentation))["stages"]


def outs(stage):
    """Files that go into the cache."""
    return {out for out in stage["outs"] if isinstance(out, str)}


def params(stage):
    return [key for entry in stage["params"] for key in entry["config.yaml"]]


def test_animations_and_weights_belong_to_the_evaluation_of_their_models():
    found = stages({"sampling": {"max_w": 1, "save_gif": True}})
    stage = found["evaluate-xunet"]
    folder = "results/evaluation/xunet/synthetic"
    assert {f"{folder}/samples.gif", f"{folder}/w0.0", f"{folder}/w1.0"} <= outs(stage)
    assert "draw_path draw_atlas sample_weights measure_weights" in stage["cmd"]
    atlas = "results/report/atlas/xunet.html"
    assert f"{folder}/samples.gif {atlas} {folder}/w0.0/metrics.json" in stage["cmd"]
    assert "sampling.max_w" in params(stage)
    assert {f"{folder}/w0.0", f"{folder}/w1.0"} <= set(found["report"]["deps"])
    # One that samples without noise has neither.
    other = found["evaluate-regression"]
    assert "draw_path" not in other["cmd"] and "sampling.max_w" not in params(other)


def test_photos_lose_their_background_by_masks_that_follow_the_codes():
    found = stages(
        {
            "datasets": {"photos": PHOTOS},
            "evaluation": {
                "datasets": ["synthetic", "photos"],
                "remove_background": ["photos"],
            },
            # It learns by masks of the rendered faces.
            "models": {"gazenerf": None},
        }
    )
    masks = found["masks-photos"]
    assert {"results/photos/latents/deca", "results/face3d/head.npz"} <= set(masks["deps"])
    assert "masks" not in found
    assert "results/photos/masks" in found["evaluate-copy"]["deps"]


def test_masks_are_a_dependency_of_methods_that_need_them(monkeypatch):
    declare = xunet.ModelSettings.declare

    def with_masks(config):
        return replace(declare(config), inputs=(Input("masks", {"names": ["eyes"]}),))

    monkeypatch.setattr(xunet.ModelSettings, "declare", staticmethod(with_masks))
    found = stages({})
    assert "results/synthetic/masks" in found["train-xunet"]["deps"]
    assert outs(found["masks"]) == {"results/synthetic/masks"}


def test_codes_of_a_set_that_nobody_looks_at_are_not_made():
    found = stages({"dataset": "photos", "datasets": {"photos": PHOTOS}})
    assert "faces" in found and "pairs" in found
    # The encoder still learns on rendered faces; these have no pairs.
    assert "faces-synthetic" in found and "pairs-synthetic" not in found


@pytest.mark.parametrize("start", ["results/models/xunet_lite", "weights/latest.pt"])
def test_a_warm_start_is_a_dependency(start):
    found = stages({"models": {"xunet": {"train": {"transfer": start}}}})
    (path,) = (path for path in found["train-xunet"]["deps"] if path.startswith(start))
    assert path == (start if start.endswith(".pt") else f"{start}/model.safetensors")


def test_what_is_published_is_not_trained():
    found = stages({"encoders": {"deca": {"checkpoint": "data/deca.tar", "preset": "reference"}}})
    assert "train-deca" not in found
    assert "data/deca.tar" in found["latents-deca"]["deps"]


def test_without_an_identity_network_nothing_depends_on_one():
    found = stages({"identity": None})
    assert "train-identity" not in found
    assert not any("results/models/identity" in str(stage["deps"]) for stage in found.values())


@pytest.mark.parametrize("labels", ["all", "subset"])
def test_the_study_of_few_labels_depends_on_what_its_redirectors_are_told(labels):
    few = {"redirectors": ["xunet_deca"], "redirector_labels": labels}
    deps = stages({"augmentation": few}, augmentation=True)["augmentation"]["deps"]
    assert "results/synthetic/latents/deca" in deps
    # With few labels it trains one of its own.
    assert ("results/models/xunet_deca/model.safetensors" in deps) is (labels == "all")


def test_how_a_model_samples_is_of_its_evaluation_and_not_of_its_training():
    found = stages({"models": {"xunet": {"sampling": {"steps": 3}}}})
    trained, evaluated = found["train-xunet"], found["evaluate-xunet"]
    assert not [key for key in params(trained) if "sampling" in key]
    assert "models.xunet.sampling" in params(evaluated)
    assert "models.xunet_lite.sampling" not in params(evaluated)
    assert "models.xunet_deca.sampling" in params(found["study-xunet_deca"])


def test_a_model_without_a_row_has_no_study():
    found = stages({"evaluation": {"models": ["copy", "truth", "xunet"]}})
    assert "evaluate-xunet" in found
    assert [name for name in found if name.startswith("study-")] == []


def test_a_short_configuration_has_the_stages_of_its_defaults():
    config = {
        "dataset": "mine",
        "datasets": {"mine": PHOTOS},
        "encoders": {},
        "estimators": {name: {"arch": name, "persons": "train"} for name in ("resnet", "vgg")},
        "models": {"lite": {"class": "xunet", "preset": "small"}},
    }
    found = yaml.safe_load(dvc_yaml(config))["stages"]
    assert {"faces", "pairs", "train-resnet", "train-lite", "report"} <= set(found)
    assert not any(name.startswith(("latents", "train-deca")) for name in found)
    # What the file does not say is at its default, and no parameter that DVC could look up.
    assert params(found["train-lite"]) == ["models.lite.class", "models.lite.preset"]
    # A stage of which the file says nothing has no parameters at all.
    assert "params" not in found["evaluate-lite"]


def test_sources_are_those_that_the_scripts_of_a_stage_reach():
    found = stages({})
    for name, stage in found.items():
        assert not any("report" in path for path in stage["deps"]) or name == "report"
    assert "src/regaze/redirectors/sample.py" not in found["train-xunet"]["deps"]
    assert "src/regaze/redirectors/sample.py" in found["evaluate-xunet"]["deps"]
    assert not any("redirectors/sted" in path for path in found["train-xunet"]["deps"])
    objective = "src/regaze/redirectors/sted/objective.py"
    assert {objective, "src/regaze/redirectors/train.py"} <= set(found["train-sted"]["deps"])
