"""All classes in one product, against the published order of the work."""

import pytest
import torch
from benchmark_modules import benchmark

from regaze.redirectors.gcgan.settings import ModelSettings


@pytest.fixture(scope="module")
def plain():
    """The plain order, as the benchmark has it."""
    return benchmark("gcgan")


@pytest.mark.parametrize(
    "changes",
    [{}, {"gaze_ids": (), "depth_layers": 2, "transparent_dims": (4,), "detach_texture": True}],
)
def test_losses_and_gradients_are_those_of_the_plain_order(plain, changes):
    config = ModelSettings(**{"class": "gcgan", "preset": "tiny", "size_px": 32}).resolve()
    config["network"] |= changes
    config["objective"] |= {"path": 0.5}
    ways = plain.ways_of(config, plain.networks(config, torch.float64, "cpu"), 4)
    for step in ("discriminator", "r1", "generator", "path"):
        here, there = (ways[name][step]() for name in ("here", "plain"))
        assert here.shape == there.shape and float(here.abs().max()) > 0
        assert plain.apart(here, there) < 1e-10, step
