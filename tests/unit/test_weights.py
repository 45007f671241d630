"""Strict loading takes what torch's own does, and nothing else."""

import pytest
import torch
from torch import nn

from regaze.weights import load_strictly


class Counted(nn.Module):
    """Batch norms with counters, one without statistics, and a counter that is no batch norm's."""

    def __init__(self):
        super().__init__()
        self.first, self.plain = nn.BatchNorm2d(3), nn.BatchNorm1d(3, track_running_stats=False)
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.seen = nn.InstanceNorm2d(3, track_running_stats=True)
        self.own = nn.Module()
        self.own.register_buffer("num_batches_tracked", torch.tensor(0))


@pytest.fixture
def state():
    torch.manual_seed(0)
    network = Counted()
    network.first.num_batches_tracked += 7
    return dict(network.state_dict())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    "absent",
    [
        ["first", "inner.1", "seen"],
        ["inner.1"],
        [],
    ],
)
def test_counters_of_batch_norms_may_be_absent(state, absent, prefix):
    for name in absent:
        del state[f"{name}.num_batches_tracked"]
    network, reference = Counted(), Counted()
    reference.load_state_dict(state, strict=True)
    load_strictly(network, {prefix + key: value for key, value in state.items()})
    for key, value in reference.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


def test_a_network_that_is_a_batch_norm():
    state = {**nn.BatchNorm1d(2).state_dict(), "weight": torch.tensor([3.0, 4.0])}
    del state["num_batches_tracked"]
    network = nn.BatchNorm1d(2)
    load_strictly(network, state)
    assert network.weight.tolist() == [3, 4] and network.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("own.num_batches_tracked", "missing own.num_batches_tracked"),
        ("first.running_mean", "missing first.running_mean"),
        ("inner.1.weight", "missing inner.1.weight"),
    ],
)
def test_all_other_keys_are_needed(state, key, message):
    del state[key]
    with pytest.raises(RuntimeError):
        Counted().load_state_dict(state, strict=True)
    with pytest.raises(ValueError, match=f"1 keys do not fit the network: {message}"):
        load_strictly(Counted(), state)


def test_keys_that_nobody_has_and_other_shapes_are_refused(state):
    for key, value, message in (
        ("plain.num_batches_tracked", torch.tensor(0), "unexpected plain.num_batches_tracked"),
        ("first.weight", torch.zeros(4), r"first.weight expected \(3,\) found \(4,\)"),
        ("first.num_batches_tracked", torch.zeros(2), r"tracked expected \(\) found \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            load_strictly(Counted(), state | {key: value})
