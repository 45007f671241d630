"""Training a recogniser on drawn people, and telling people apart."""

import json

import numpy as np
import pytest
import torch

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.identity import verification
from regaze.identity.mobilefacenet import MobileFaceNet
from regaze.identity.settings import IdentitySettings
from regaze.identity.stage import make_recogniser
from regaze.identity.store import build_recogniser, load_recogniser
from regaze.identity.training import IdentityTask, arcface_logits
from regaze.identity.verification import roc, verify
from regaze.provenance import fingerprint
from regaze.training.context import ModelFiles
from regaze.training.phases import Progress
from regaze.training.settings import TrainSettings

PEOPLE, PICTURES = 9, 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """People that differ in the colours of their quarters, pictures in noise and in pose."""
    root = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    attributes = FacesAttributes("sted", (32, 32), 125.0, 600.0, "none", "test")
    names = [f"p{number}" for number in range(PEOPLE)]
    with FacesWriter(root / "faces.h5", attributes) as writer:
        for name in names:
            own = rng.integers(40, 215, (2, 2, 3)).repeat(16, 0).repeat(16, 1)
            noise = rng.integers(-40, 40, (PICTURES, 32, 32, 3))
            labels = rng.uniform(-0.3, 0.3, (PICTURES, 8)).astype(np.float32)
            writer.add_person(name, (own + noise).clip(0, 255).astype(np.uint8), labels)
    split = {"train-evaluator": names[:6], "val": names[6:7], "test": names[6:]}
    (root / "split.json").write_text(json.dumps(split))
    return root


def trained(world, folder, **changes):
    train = TrainSettings(
        images=640,
        batch=16,
        lr=3e-3,
        warmup_images=32,
        ema_halflife_images=64,
        tensorboard=False,
        # A process trains in one precision only, and other tests chose this one.
        precision="fp32",
    )
    entry = {"network": "tiny", "size_px": 32, "train": train} | changes
    config = IdentitySettings(**entry).model_dump()
    names = {"model": "model.safetensors", "record": "model.json", "curve": "curve.csv"}
    files = {key: folder / name for key, name in names.items()}
    make_recogniser(
        config,
        faces=[str(world / "faces.h5")],
        split=str(world / "split.json"),
        seed=0,
        size_px=32,
        files=ModelFiles(**files, state=folder / "state"),
    )
    return json.loads((folder / "model.json").read_text())


def test_it_learns_to_tell_unseen_people_apart(world, tmp_path):
    record = trained(world, tmp_path)
    quality = record["verification"]
    assert quality["auc"] > 0.9 and quality["eer"] < 0.2
    assert quality["same_mean"] > quality["other_mean"]
    assert quality["persons"] == 3 and quality["pictures"] == 3 * PICTURES
    assert record["preprocess"] == "whole patch resized to 32 px"
    assert load_recogniser(tmp_path).name == "tiny"


def test_training_is_reproducible(world, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        trained(world, tmp_path / name)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_published_network_is_verified_and_not_trained(world, tmp_path):
    torch.manual_seed(0)
    network = MobileFaceNet().eval()
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    record = trained(world, tmp_path, network="mobilefacenet", checkpoint=str(weights))
    assert record["checkpoint"] == fingerprint(weights)
    assert record["verification"]["pictures"] == 3 * PICTURES
    assert (tmp_path / "curve.csv").read_text().split() == ["step,images", "0,0"]
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    assert torch.equal(load_recogniser(tmp_path).embed(images), network.embed(images))


def test_of_many_pictures_some_are_compared(world, monkeypatch):
    monkeypatch.setattr(verification, "MOST_ROWS", PEOPLE * PICTURES // 2)
    reader = FacesReader(world / "faces.h5")
    found = verify(build_recogniser("tiny", 32), reader, reader.rows())
    assert found["pictures"] == PEOPLE * PICTURES // 2 and found["persons"] == PEOPLE


def test_without_augmentation_losses_repeat_and_ask_for_no_labels():
    torch.manual_seed(0)
    task = IdentityTask(build_recogniser("tiny", 32).eval(), 2, scale=16.0, margin=0.3)
    batch = {"image": torch.rand(3, 3, 32, 32) * 2 - 1, "person": torch.tensor([0, 1, 0])}
    first, second = (
        task.losses(batch, "main", Progress(0, 0, torch.Generator().manual_seed(seed)))
        for seed in (0, 1)
    )
    assert first["loss"] == second["loss"] > 0 and 0 <= first["hit"] <= 1


def test_roc_of_known_sets():
    assert roc([0.9, 0.8], [0.1, 0.2]) == (1.0, 0.0)
    assert roc([0.1], [0.9]) == (0.0, 1.0)
    area, equal = roc([0.5, 0.5], [0.5, 0.5])
    assert area == 0.5 and equal == 0.5
    rng = np.random.default_rng(0)
    area, equal = roc(rng.normal(2, 1, 4000), rng.normal(0, 1, 4000))
    # Two unit normals two apart: area Phi(sqrt 2), equal error rate Phi(-1).
    assert abs(area - 0.9214) < 0.01 and abs(equal - 0.1587) < 0.01
    with pytest.raises(ValueError, match="some of both"):
        roc([], [1.0])


def test_the_margin_turns_the_own_class_away():
    cosine = torch.tensor([[0.8, 0.3], [-0.99, 0.2]])
    person = torch.tensor([0, 0])
    found = arcface_logits(cosine, person, 16.0, 0.3)
    assert np.isclose(found[0, 0], 16 * np.cos(np.arccos(0.8) + 0.3), atol=1e-4)
    assert np.isclose(found[0, 1], 16 * 0.3)
    assert found[1, 0] < 16 * -0.99
    assert torch.allclose(arcface_logits(cosine, person, 1.0, 0.0), cosine, atol=1e-5)
