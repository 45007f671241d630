"""ST-ED through the training stage: two phases, published weights.

That it resumes exactly is in tests/unit/redirectors/test_contract.py.
"""

import csv
import json

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regaze.estimators import store
from regaze.estimators.build import build_estimator
from regaze.estimators.stage import train_estimator
from regaze.redirectors.base import build_redirector
from regaze.redirectors.networks import load_redirector
from regaze.redirectors.sted.checkpoints import PARTS
from regaze.redirectors.sted.redirector import StedRedirector
from regaze.redirectors.sted.settings import ModelSettings
from regaze.redirectors.train import TrainingData, train_redirector
from regaze.training.context import ModelFiles

TRAIN = {
    "images": 24,
    "batch": 4,
    "warmup_images": 4,
    "log_every_images": 8,
    "state_every_images": 8,
    "precision": "fp32",
    "optimizer": "adam",
    "weight_decay": 1e-4,
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Faces of noise, a split, an untrained estimator's folder."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    with h5py.File(folder / "faces.h5", "w") as file:
        for person in "abcdef":
            labels = np.zeros((4, 8), np.float32)
            labels[:, :4] = rng.uniform(-0.3, 0.3, (4, 4))
            file[f"{person}/labels"] = labels
            file[f"{person}/pixels"] = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    lists = {"train-redirector": list("abcd"), "val": list("ef"), "test": ["f"]}
    (folder / "split.json").write_text(json.dumps(lists))
    (folder / "vgg").mkdir()
    torch.manual_seed(0)
    network = build_estimator("vgg", "tiny", 32, "none")
    save_file(network.state_dict(), folder / "vgg/model.safetensors")
    record = {"kind": "estimator", "name": "vgg", "config": network.config()}
    (folder / "vgg/model.json").write_text(json.dumps(record))
    return folder


def config():
    entry = {"class": "sted", "preset": "tiny", "size_px": 32, "train": TRAIN}
    return ModelSettings(**entry, objective={"discriminator_ramp_steps": 3}).resolve()


def files(folder):
    folder.mkdir(exist_ok=True)
    names = {"model": "model.safetensors", "record": "model.json", "curve": "curve.csv"}
    return ModelFiles(**{k: folder / v for k, v in names.items()}, state=folder / "state")


def trained(world, folder, resolved):
    data = TrainingData(
        faces=[str(world / "faces.h5")],
        split=str(world / "split.json"),
        networks={"estimator": str(world / "vgg")},
    )
    train_redirector("sted", resolved, data, seed=0, files=files(folder))
    return load_file(folder / "model.safetensors")


def test_phases_take_turns_and_the_discriminator_comes_in_slowly(world, tmp_path, monkeypatch):
    losses, calls = StedRedirector.losses, []

    def counted(self, batch, phase, at):
        calls.append(phase)
        return losses(self, batch, phase, at)

    monkeypatch.setattr(StedRedirector, "losses", counted)
    trained(world, tmp_path / "whole", config())
    assert calls[:12] == ["discriminator", "generator"] * 6
    with open(tmp_path / "whole/curve.csv", newline="") as stream:
        shares = [float(row["generator/discrim_coeff"]) for row in csv.DictReader(stream)]
    assert shares == pytest.approx([1 / 6, 5 / 6, 1.0], abs=1e-5)
    redirector, record = load_redirector(tmp_path / "whole")
    assert record["class"] == "sted" and redirector.net.discriminator is not None


def test_published_networks_are_taken_as_they_are(world, tmp_path):
    torch.manual_seed(1)
    network = build_redirector(config()).net
    published = {name: getattr(network, name).state_dict() for name in PARTS}
    torch.save(published, tmp_path / "000020.pt")
    resolved = config() | {"checkpoint": str(tmp_path / "000020.pt")}
    found = trained(world, tmp_path / "model", resolved)
    own = network.state_dict()
    assert all(torch.equal(found[key], own[key]) for key in found)
    record = json.loads((tmp_path / "model/model.json").read_text())
    assert record["source"] == "published" and record["images_seen"] == 0
    resolved["network"]["width"] = 24
    with pytest.raises(ValueError, match=r"000020\.pt: checkpoint: encoder: \d+ keys do not fit"):
        trained(world, tmp_path / "model", resolved)
    resolved["checkpoint"] = str(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        trained(world, tmp_path / "model", resolved)


def test_published_estimators_are_taken_as_they_are(world, tmp_path, monkeypatch):
    torch.manual_seed(2)
    network = build_estimator("resnet", "tiny", 32, "none")
    monkeypatch.setattr(
        store, "build_estimator", lambda arch, preset: build_estimator(arch, "tiny", 32, "none")
    )
    torch.save(network.state_dict(), tmp_path / "at_step_0000010.pth.tar")
    entry = {**network.config(), "checkpoint": str(tmp_path), "train": TRAIN}
    data = {"faces": [str(world / "faces.h5")], "split": str(world / "split.json")}
    train_estimator("resnet", entry, **data, seed=0, files=files(tmp_path / "model"))
    found = load_file(tmp_path / "model/model.safetensors")
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())
    record = json.loads((tmp_path / "model/model.json").read_text())
    assert record["source"] == "published" and record["held_out"]["n"] == 4
    entry["checkpoint"] = str(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="expected the weights"):
        train_estimator("resnet", entry, **data, seed=0, files=files(tmp_path / "model"))
