"""The examples of docs/adding-a-method.md are working methods."""

import json
import re
from pathlib import Path

import method_folders
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from regaze.redirectors.bench import Bench
from regaze.redirectors.checks import run_checks
from regaze.redirectors.networks import load_redirector
from regaze.report.inputs import read_curve
from regaze.settings import ConfigurationError, Settings, load_settings
from regaze.training.phases import Progress
from regaze.training.posthoc import write_posthoc

ROOT = Path(__file__).parents[3]


@pytest.fixture
def blend(tmp_path, monkeypatch):
    """The folders of the page's examples, found as if they lay beside the other methods."""
    text = (ROOT / "docs/adding-a-method.md").read_text()
    for name, code in re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL):
        file = tmp_path / ("" if "/" in name else "blend") / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
        (file.parent / "__init__.py").touch()
    method_folders.beside(monkeypatch, tmp_path)
    yield "blend"
    for name in ("blend", "refine"):
        method_folders.forget(f"regaze.redirectors.{name}")


def configured(**refine):
    """Settings with an entry of both examples."""
    estimators = {"resnet": {"arch": "resnet", "persons": "train-evaluator", "size_px": 16}}
    return load_settings(
        {
            "datasets": {"synthetic": {"source": "synthetic"}},
            "estimators": estimators,
            "models": {
                "blend": {"class": "blend", "size_px": 16},
                "refine": {"class": "refine", "size_px": 16, "base": "blend", **refine},
            },
        }
    )


@pytest.fixture
def bench(blend, tmp_path):
    """Makes a bench of an entry."""

    def made(name, **refine):
        settings = configured(**refine)
        (tmp_path / "bench").mkdir(exist_ok=True)
        return Bench(name, settings.models, settings.estimators, tmp_path / "bench")

    return made


@pytest.mark.parametrize("name", ["blend", "refine"])
def test_examples_keep_the_contract(bench, name):
    outcomes = list(run_checks(bench(name)))
    assert not [one for one in outcomes if one.state == "failed"]
    assert sum(one.state == "passed" for one in outcomes) == 15


def test_codes_and_adversary_are_learnt_and_no_part_of_the_model(bench):
    own = bench("refine")
    folder, trained = own.unbroken
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == trained.saved.state_dict().keys()
    codes = trained.net["codes"].weight
    assert len(codes) == len(own.reader)
    learnt = own.reader.rows(list("abcd"))
    changed = torch.zeros(len(codes), dtype=torch.bool)
    changed[learnt] = codes[learnt].any(1)
    assert codes.any() and torch.equal(changed, codes.any(1))
    curve = pd.read_csv(folder / "curve.csv")
    assert curve["r1/loss"].notna().sum() == 2 and curve["refiner/l1"].notna().all()
    # The report's loss is that of the last phase, and no lazy term's.
    assert read_curve(folder / "curve.csv")["loss"].equals(curve["refiner/loss"])
    record = json.loads((folder / "model.json").read_text())
    assert record["networks"]["base"]["entry"] == "blend" and record["networks"]["base"]["always"]


def test_the_base_is_frozen_and_has_to_be_the_same_when_pictures_are_made(bench):
    own = bench("refine")
    weights = Path(own.networks["base"]) / "model.safetensors"
    before = weights.read_bytes()
    folder, _ = own.unbroken
    assert weights.read_bytes() == before
    redirector, _ = load_redirector(folder, own.sampling)
    assert not any(p.requires_grad for p in redirector.base[0].parameters())
    other = {key: value + 1 for key, value in load_file(weights).items()}
    save_file(other, weights)
    with pytest.raises(ValueError, match="expected the base that 'refine' was trained with"):
        load_redirector(folder, own.sampling)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="blend/model.safetensors"):
        load_redirector(folder, own.sampling)


def test_how_codes_are_fitted_decides_pictures_and_no_weights(bench):
    own = bench("refine")
    few, many = (configured(sampling={"fit_steps": steps}).models["refine"] for steps in (0, 20))
    assert few.resolve() == many.resolve() and few.sampling != many.sampling
    folder, _ = own.unbroken
    made = []
    for entry in (few, many):
        redirector, _ = load_redirector(folder, entry.sampling.model_dump())
        # Weights that have learnt more than eight steps can.
        nn.init.constant_(redirector.saved.last.weight, 0.1)
        with torch.no_grad():
            made.append(redirector.redirect(own.asked(), seed=0))
    assert (made[0] - made[1]).abs().max() > 1e-3


def test_an_average_of_a_part_of_the_model_is_made_afterwards_too(bench, monkeypatch):
    own = bench("refine")
    changes = {"ema_std": [0.05, 0.1], "ema_snapshot_images": 8}
    own.config["train"] |= changes
    refine = type(own.built())
    monkeypatch.setattr(refine, "averaged", property(lambda self: self.saved.first))
    folder, _ = own.unbroken
    home, new = own.folder / "state" / folder.name, folder.with_name("other")
    made = write_posthoc(folder, new, 0.08, state=home)
    assert made["averaged"] == "first."
    last, other = (load_file(one / "model.safetensors") for one in (folder, new))
    assert last.keys() == other.keys()
    changed = {key.partition(".")[0] for key in last if not torch.equal(last[key], other[key])}
    assert changed == {"first"}


def test_a_base_that_does_not_fit_is_refused(blend):
    with pytest.raises(ConfigurationError, match="models.refine.size_px: expected 16 as its base"):
        configured(size_px=32)
    with pytest.raises(ConfigurationError, match="models.refine: its base 'none' is not defined|"
                       "its base: 'none' is not defined"):  # fmt: skip
        configured(base="none")
    with pytest.raises(ConfigurationError, match="learns from itself"):
        configured(base="refine")


def test_example_is_configured_trained_and_sampled_like_any_method(blend):
    from regaze.redirectors.base import build_redirector, divided

    entry = {"class": "blend", "size_px": 64}
    resnet = {"arch": "resnet", "persons": "train-evaluator"}
    settings = Settings(
        datasets={"synthetic": {"source": "synthetic"}},
        estimators={"resnet": resnet},
        models={"blend": entry},
    )
    assert settings.rows == ["copy", "truth", "blend"]
    redirector = build_redirector(settings.models["blend"].resolve())
    batch = {
        name: torch.rand(4, 2, generator=torch.Generator().manual_seed(n)) - 0.5
        for n, name in enumerate(("source_gaze", "target_gaze", "source_head", "target_head"))
    }
    batch["source"] = torch.rand(4, 3, 64, 64) * 2 - 1
    batch["pair"] = torch.arange(4)
    torch.testing.assert_close(
        redirector.redirect(batch, seed=0), batch["source"], atol=1e-4, rtol=0
    )
    # One source stands for as many targets as there are.
    source, target = divided({k: v[:1] if "source" in k else v for k, v in batch.items()})
    many = redirector.edit(redirector.invert(source, seed=0), target, seed=0)
    torch.testing.assert_close(many, source["source"].expand(4, -1, -1, -1), atol=1e-4, rtol=0)
    assert settings.declarations["blend"].condition == "gaze and head angles"
    moved = batch | {"target": batch["source"].roll(2, 3)}
    optimiser = torch.optim.Adam(redirector.network.parameters(), 1e-2)
    first = None
    for _ in range(30):
        loss = redirector.losses(moved, "main", Progress(0, 0, torch.Generator()))["loss"]
        first = first or float(loss.detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < first


def test_example_refuses_what_it_does_not_know(blend):
    with pytest.raises(ConfigurationError, match="models.blend.widht: unknown key"):
        load_settings(
            {
                "datasets": {"synthetic": {"source": "synthetic"}},
                "estimators": {"resnet": {"arch": "resnet", "persons": "train-evaluator"}},
                "models": {"blend": {"class": "blend", "widht": 3}},
            }
        )
