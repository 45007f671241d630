"""Training pairs that are changed: both alike, the same every time, nothing where all is 0."""

import numpy as np
import pytest
import torch

from regaze.angles import vector_from_angles
from regaze.redirectors.jitter import PairJitter
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.training.settings import Jitter, RedirectorTraining

ALL = Jitter(
    shift=0.03,
    zoom=0.1,
    roll_deg=5.0,
    gain=0.2,
    white=0.1,
    offset=15.0,
    blur=1.5,
    noise=8.0,
    quality=40,
    source_gaze_deg=4.0,
    head_deg=3.0,
)
PICTURES = {name: getattr(ALL, name) for name in Jitter.model_fields if not name.endswith("_deg")}


def loaded(count=6, size=48, seed=0):
    rng = np.random.default_rng(seed)
    smooth = rng.integers(40, 216, (2, count, 6, 6, 3)).astype(np.uint8)
    pictures = torch.from_numpy(smooth.repeat(size // 6, 2).repeat(size // 6, 3))
    batch = {"source": pictures[0], "target": pictures[1]}
    for name in ("source_gaze", "source_head", "target_gaze", "target_head"):
        batch[name] = torch.from_numpy(rng.uniform(-0.3, 0.3, (count, 2)).astype(np.float32))
    return batch


def changed(options, batch, first=0, seed=3):
    count = len(batch["source"])
    return PairJitter(options, seed)(batch, np.arange(first, first + count))


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_nothing_is_changed_by_nothing():
    batch = loaded()
    assert equal(changed(Jitter(), batch), batch)


def test_a_pair_that_differs_in_nothing_still_does():
    batch = loaded()
    batch["target"] = batch["source"].clone()
    made = changed(Jitter(**PICTURES), batch)
    assert torch.equal(made["source"], made["target"])
    assert not torch.equal(made["source"], batch["source"])


@pytest.mark.parametrize("name", [*PICTURES, "roll_deg"])
def test_each_option_changes_source_and_ground_truth_alike(name):
    batch = loaded(12)
    batch["target"] = batch["source"].clone()
    made = changed(Jitter(**{name: getattr(ALL, name)}), batch)
    moved = (made["source"] != batch["source"]).flatten(1).any(1)
    assert moved.any() and torch.equal(made["source"], made["target"])


def test_a_pair_depends_on_its_position_and_the_seed_alone():
    batch = loaded()
    whole, again = changed(ALL, batch), changed(ALL, batch)
    assert equal(whole, again)
    part = changed(ALL, {name: value[2:4] for name, value in batch.items()}, first=2)
    assert equal(part, {name: value[2:4] for name, value in whole.items()})
    assert not equal(changed(ALL, batch, seed=4), whole)


def test_one_option_does_not_change_what_another_does():
    batch = loaded()
    alone = changed(Jitter(shift=0.03), batch)
    beside = changed(Jitter(shift=0.03, source_gaze_deg=4.0), batch)
    assert torch.equal(alone["source"], beside["source"])


def test_what_is_given_is_left_as_it_was():
    batch = loaded()
    before = {name: value.clone() for name, value in batch.items()}
    changed(ALL, batch)
    assert equal(batch, before)


def test_directions_turn_with_the_picture():
    """Where an eye looks to in the picture is turned as a point of the picture is."""
    batch = loaded(1, size=96)
    spot = np.zeros((96, 96, 3), np.uint8)
    spot[46:50, 76:80] = 255
    batch["source"] = torch.from_numpy(spot)[None]
    made = changed(Jitter(roll_deg=20.0), batch)
    weight = made["source"][0, ..., 0].numpy().astype(float)
    y, x = (np.average(grid, weights=weight) - 47.5 for grid in np.mgrid[:96, :96])
    turned = np.arctan2(y, x) - np.arctan2(0.0, 30.0)
    before, after = (vector_from_angles(one["source_gaze"][0].numpy()) for one in (batch, made))
    assert abs(turned) > 0.03
    assert np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0]) == pytest.approx(
        turned, abs=0.02
    )
    assert after[2] == pytest.approx(before[2], abs=1e-5)


def test_errors_of_labels_are_those_of_a_detector():
    """The source's gaze is misread; the head is read as another one in both pictures."""
    batch = loaded(400, size=6)
    made = changed(Jitter(source_gaze_deg=4.0, head_deg=3.0), batch)
    off = {name: np.degrees((made[name] - batch[name]).numpy()) for name in made if "_" in name}
    assert off["source_gaze"].std() == pytest.approx(4.0, rel=0.1)
    assert not off["target_gaze"].any()
    assert off["source_head"].std() == pytest.approx(3.0, rel=0.1)
    assert np.allclose(off["source_head"], off["target_head"], atol=1e-4)


def test_records_without_it_are_as_they_were():
    assert "jitter" not in RedirectorTraining().model_dump()
    told = RedirectorTraining(jitter={"blur": 1.0}).model_dump()["jitter"]
    assert Jitter(**told) == Jitter(blur=1.0)


def test_faces_are_not_moved_of_which_more_is_read():
    codes = {"class": "xunet", "network": {"code": "film"}}
    with pytest.raises(ValueError, match=r"train\.jitter: expected shift, zoom .* codes"):
        ModelSettings(**codes, train={"jitter": {"shift": 0.1}}).resolve()
    ModelSettings(**codes, train={"jitter": {"noise": 4.0}}).resolve()
