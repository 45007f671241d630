"""What a method inherits: refusals of what it did not define, and defaults that need nothing."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from regaze.redirectors import declaration
from regaze.redirectors.base import Redirector
from regaze.redirectors.declaration import Declaration, Input, Network, declared_by
from regaze.redirectors.sample import chunk_size
from regaze.training.phases import Progress

START = Progress(0, 0, torch.Generator())


class Darker(Redirector):
    """No more than a method has to define."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    @property
    def network(self):
        return self.layer

    def edit(self, state, target, *, seed):
        return state["source"] / 2


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda bare: bare.network, "defines no network"),
        (lambda bare: bare.losses({}, "main", START), "defines no losses"),
        (lambda bare: bare.redirect({}, seed=0), "defines no edit"),
        (lambda bare: bare.read_reference("a.pt"), "knows no published files"),
    ],
    ids=["network", "losses", "redirect", "published"],
)
def test_a_bare_redirector_says_what_it_lacks(ask, message):
    bare = type("Bare", (Redirector,), {})()
    with pytest.raises(TypeError, match=f"Bare {message}"):
        ask(bare)


@pytest.mark.parametrize(
    "load",
    [
        lambda made, state: made.load_start(state),
        lambda made, state: made.load_reference(state, {}),
    ],
    ids=["start", "published"],
)
def test_weights_are_loaded_whole_or_refused(load):
    made, other = Darker(), Darker()
    load(made, other.network.state_dict())
    assert torch.equal(made.layer.weight, other.layer.weight)
    with pytest.raises(ValueError, match="2 keys .*missing bias; unexpected extra"):
        load(made, {"weight": torch.zeros(3, 2), "extra": torch.zeros(1)})
    assert torch.equal(made.layer.weight, other.layer.weight)


def test_the_way_of_a_method_without_steps_is_its_picture():
    batch = {"source": torch.rand(2, 3, 4, 4)}
    made = Darker()
    way = made.record_path(made.invert(batch, seed=0), {}, seed=0)
    assert torch.equal(way, made.redirect(batch, seed=0)[None])
    assert torch.equal(way, batch["source"][None] / 2)


def test_who_needs_little_memory_makes_fifty_pictures_at_a_time():
    assert Darker().bytes_per_image() is None
    assert chunk_size(Darker(), {"batch": "auto", "memory_mb": 50}) == 50


MASKS = Input("masks", {"names": ["eyes"]})


@pytest.fixture
def entry(monkeypatch):
    """Makes configurations of a method that reads masks and may learn from an estimator."""

    def declare(config):
        name = config["learns_from"]
        networks = () if name is None else (Network("estimator", "estimators", name),)
        return Declaration(inputs=(MASKS,), networks=networks)

    method = SimpleNamespace(ModelSettings=SimpleNamespace(declare=declare))
    monkeypatch.setattr(declaration, "method_module", lambda *name: method)

    def made(learns_from, validates_with, **more):
        train = {"validate_estimator": validates_with}
        return {"class": "new", "learns_from": learns_from, "train": train, **more}

    return made


@pytest.mark.parametrize(
    ("learns_from", "validates_with", "wanted"),
    [("vgg", None, "vgg"), ("vgg", "vgg", "vgg"), (None, "vgg", "vgg"), (None, None, None)],
)
def test_the_estimator_of_the_validation_is_required_too(
    entry, learns_from, validates_with, wanted
):
    asked = declared_by(entry(learns_from, validates_with))
    networks = () if wanted is None else (Network("estimator", "estimators", wanted),)
    assert asked == Declaration(inputs=(MASKS,), networks=networks)
    assert asked.network("estimator") == wanted and asked.input("masks") is MASKS
    assert asked.network("teacher") is None and asked.input("codes") is None


def test_the_estimator_of_labels_is_required_too(entry):
    asked = declared_by(entry(None, "vgg", labels={"count": 3, "estimator": "few"}))
    assert [(one.role, one.entry) for one in asked.networks] == [
        ("estimator", "vgg"),
        ("labeller", "few"),
    ]


def test_losses_and_validation_share_one_estimator(entry):
    message = "train.validate_estimator: 'resnet', but the method learns from 'vgg'"
    with pytest.raises(ValueError, match=message):
        declared_by(entry("vgg", "resnet"))
