"""What a method inherits: refusals of what it did not define, and defaults that need nothing."""

from types import SimpleNamespace

import pytest
import torch
from regaze.redirectors.settings import Requirements, requirements
from torch import nn

from regaze.redirectors.base import Redirector
from regaze.redirectors.sample import chunk_size


class Darker(Redirector):
    """No more than a method has to define."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    @property
    def network(self):
        return self.layer

    def redirect(self, batch, *, seed):
        return batch["source"] / 2


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda bare: bare.network, "defines no network"),
        (lambda bare: bare.mean_code(), "is told no codes"),
        (lambda bare: bare.losses({}, "main", torch.Generator()), "defines no losses"),
        (lambda bare: bare.redirect({}, seed=0), "defines no redirect"),
        (lambda bare: bare.read_reference("a.pt"), "knows no published files"),
    ],
    ids=["network", "codes", "losses", "redirect", "published"],
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
    assert torch.equal(Darker().record_path(batch, seed=0), batch["source"][None] / 2)


def test_who_needs_little_memory_makes_fifty_pictures_at_a_time():
    assert Darker().bytes_per_image() is None
    assert chunk_size(Darker(), {"batch": "auto", "memory_mb": 50}) == 50


def entry(learns_from, validates_with):
    return SimpleNamespace(
        requires=lambda: Requirements(masks=True, estimator=learns_from),
        train=SimpleNamespace(validate_estimator=validates_with),
    )


@pytest.mark.parametrize(
    ("learns_from", "validates_with", "wanted"),
    [("vgg", None, "vgg"), ("vgg", "vgg", "vgg"), (None, "vgg", "vgg"), (None, None, None)],
)
def test_the_estimator_of_the_validation_is_required_too(learns_from, validates_with, wanted):
    asked = requirements(entry(learns_from, validates_with))
    assert asked == Requirements(masks=True, estimator=wanted)


def test_losses_and_validation_share_one_estimator():
    message = "train.validate_estimator: 'resnet', but the method learns from 'vgg'"
    with pytest.raises(ValueError, match=message):
        requirements(entry("vgg", "resnet"))
