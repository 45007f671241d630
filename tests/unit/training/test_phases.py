"""Phases of a training: their cadence, their optimisers, and what is frozen until they begin."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from regaze.training.loop import lr_factor, train
from regaze.training.phases import Phase
from regaze.training.settings import TrainSettings

SETTINGS = TrainSettings(
    images=160,
    batch=8,
    lr=0.01,
    warmup_images=16,
    ema_halflife_images=0,
    log_every_images=16,
    state_every_images=8,
    tensorboard=False,
    precision="fp32",
)
STEPS = 20
OPTIONS = {"lr": 0.5, "betas": (0.0, 0.5), "weight_decay": 0.25, "warmup_images": 0}
OPTIONS |= {"schedule": "constant", "optimizer": "adam"}


class Three(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.made, self.lazy, self.late = (nn.Linear(3, 1) for _ in range(3))


class Toy:
    """Three networks, a phase each: every step, every third, and from 60 images on every second."""

    def __init__(self, stop_at=None, touching=False):
        self.network, self.stop_at, self.touching = Three(), stop_at, touching
        self.calls, self.seen = [], {"made": [], "lazy": [], "late": []}

    def phases(self):
        net = self.network
        return [
            Phase("made", list(net.made.parameters())),
            Phase("lazy", list(net.lazy.parameters()), OPTIONS, every=3),
            Phase("late", list(net.late.parameters()), every=2, after=60),
        ]

    def losses(self, batch, phase, at):
        if phase == "made" and at.step == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append((phase, at.step, at.images))
        for name, weights in self.seen.items():
            weights.append((at.step, getattr(self.network, name).weight.detach().clone()))
        noise = torch.randn(batch["x"].shape, generator=at.generator)
        error = getattr(self.network, phase)(batch["x"] + 0.1 * noise) - batch["x"].sum(1, True)
        loss = (error**2).mean()
        if self.touching:
            # A gradient for networks that this phase does not train.
            loss = loss + sum(p.sum() ** 2 for p in self.network.parameters())
        elif self.touching is None:
            own = {id(p) for p in getattr(self.network, phase).parameters()}
            loss = loss + sum(p.sum() ** 2 for p in self.network.parameters() if id(p) in own)
        return {"loss": loss}


class Numbers:
    def __init__(self, rank=0, world=1):
        pass

    def load(self, step):
        return {"x": torch.randn(8, 3, generator=torch.Generator().manual_seed(step))}

    def finish(self, batch):
        return batch


def run(folder, task=None, settings=SETTINGS, **options):
    given = {"seed": 3, "state": folder, "config": {}}
    return train(task or Toy(), Numbers, settings, **given, **options)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def steps_of(task, phase):
    return [step for name, step, _ in task.calls if name == phase]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_phases_run_at_their_cadence_and_are_told_how_far_the_training_is(tmp_path, accumulate):
    task = Toy()
    per_step = 8 * accumulate
    settings = SETTINGS.model_copy(update={"accumulate": accumulate, "images": STEPS * per_step})
    run(tmp_path, task, settings)
    parts = range(accumulate)
    begun = -(-60 // per_step)
    assert steps_of(task, "made") == [step for step in range(STEPS) for _ in parts]
    assert steps_of(task, "lazy") == [step for step in range(0, STEPS, 3) for _ in parts]
    late = [step for step in range(begun, STEPS) if step % 2 == 0]
    assert steps_of(task, "late") == [step for step in late for _ in parts]
    assert all(images == step * per_step for _, step, images in task.calls)
    order = [name for name, step, _ in task.calls if step == 12][::accumulate]
    assert order == ["made", "lazy", "late"]


def test_an_optimiser_steps_as_often_as_its_phase_and_weights_rest_in_between(tmp_path):
    task, optimisers = Toy(), {}
    weights, curve = run(tmp_path, task, begin=optimisers.update)
    for name, optimiser in optimisers.items():
        taken = {int(state["step"]) for state in optimiser.state.values()}
        assert taken == {len(steps_of(task, name))}
    start = Three().state_dict()
    # Frozen before its first step, and not touched by the steps of others.
    for name in ("lazy", "late"):
        mine = steps_of(task, name)
        for (before, old), (now, new) in zip(task.seen[name], task.seen[name][1:], strict=False):
            moved = any(before <= step < now for step in mine) or now == before and before in mine
            assert torch.equal(old, new) or moved
        first = [weight for step, weight in task.seen[name] if step <= mine[0]][0]
        assert torch.equal(first, start[f"{name}.weight"])
        assert not torch.equal(weights[f"{name}.weight"], start[f"{name}.weight"])
    # A row per step here: what did not run is no part of it.
    for name in task.seen:
        assert [row["step"] - 1 for row in curve if f"{name}/loss" in row] == steps_of(task, name)


def test_each_phase_has_its_own_optimiser_and_rate(tmp_path):
    kinds, rates = {}, {}

    def begin(optimisers):
        for name, optimiser in optimisers.items():
            group = optimiser.param_groups[0]
            kinds[name] = (type(optimiser).__name__, group["betas"], group["weight_decay"])
            optimiser.register_step_pre_hook(
                lambda one, *_, name=name: rates.setdefault(name, []).append(
                    one.param_groups[0]["lr"]
                )
            )

    run(tmp_path, begin=begin)
    assert kinds["lazy"] == ("Adam", (0.0, 0.5), 0.25)
    assert kinds["made"] == kinds["late"] == ("AdamW", (0.9, 0.99), 0.0)
    assert set(rates["lazy"]) == {0.5}
    expected = [0.01 * lr_factor(8 * (step + 1), SETTINGS) for step in range(STEPS)]
    assert rates["made"] == pytest.approx(expected)
    # Schedules go by all images: a late phase begins where the others are.
    assert rates["late"] == pytest.approx(expected[8::2])


def test_a_part_of_a_phase_may_learn_at_a_multiple_of_its_rate(tmp_path):
    class Uneven(Toy):
        def phases(self):
            made, *others = super().phases()
            bias = [self.network.made.bias]
            return [Phase(made.name, made.parameters, rates=(bias, 0.0)), *others]

    task = Uneven()
    before = {name: one.clone() for name, one in task.network.state_dict().items()}
    found, _ = run(tmp_path / "a", task)
    assert torch.equal(found["made.bias"], before["made.bias"])
    assert not torch.equal(found["made.weight"], before["made.weight"])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", Uneven(stop_at=9))
    assert same(found, run(tmp_path / "b", Uneven())[0])


def test_gradients_that_a_loss_gives_to_others_move_nothing(tmp_path):
    found = run(tmp_path / "a", Toy(touching=True))[0]
    assert same(found, run(tmp_path / "b", Toy(touching=None))[0])


@pytest.mark.parametrize("stop_at", [1, 2, 4, 8, 9, 13, 19])
def test_a_training_goes_on_amid_its_cadence(tmp_path, stop_at):
    whole, curve = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Toy(stop_at))
    task = Toy()
    again, resumed = run(tmp_path / "cut", task)
    assert same(whole, again)
    assert steps_of(task, "made") == list(range(stop_at, STEPS))
    assert steps_of(task, "lazy") == [step for step in range(0, STEPS, 3) if step >= stop_at]
    for a, b in zip(curve, resumed, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


def test_another_cadence_is_another_training(tmp_path):
    plain, _ = run(tmp_path / "a")

    class Often(Toy):
        def phases(self):
            return [Phase(one.name, one.parameters, one.options, 1, 0) for one in super().phases()]

    often, _ = run(tmp_path / "b", Often())
    assert torch.equal(plain["made.weight"], often["made.weight"])
    assert not torch.equal(plain["lazy.weight"], often["lazy.weight"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"options": {"learning_rate": 1}}, "phase r1: learning_rate is no option of phases; exp"),
        ({"options": {"images": 8}}, "phase r1: images is no option of phases; expected some of"),
        ({"every": 0}, "phase r1: expected every of at least 1 .*, found 0 and 0"),
        ({"after": -1}, "phase r1: expected every .* after of at least 0, found 1 and -1"),
    ],
)
def test_phases_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Phase("r1", [nn.Parameter(torch.zeros(1))], **given)


class Sets(Toy):
    """What is trained holds what is saved, which holds what is averaged."""

    def __init__(self, stop_at=None):
        super().__init__(stop_at)
        net = self.network
        net.model = nn.ModuleDict({"made": net.made, "lazy": net.lazy})
        self.saved, self.averaged = net.model, net.made


def test_what_is_trained_saved_and_averaged_are_sets_of_their_own(tmp_path):
    widths = {"ema_std": (0.05, 0.1), "ema_snapshot_images": 80, "ema_halflife_images": 24}
    settings = SETTINGS.model_copy(update=widths)
    task = Sets()
    smooth, _ = run(tmp_path / "smooth", task, settings)
    assert smooth.keys() == task.saved.state_dict().keys()
    plain, _ = run(tmp_path / "plain", Sets())
    # The average changes nothing that it is not of.
    assert torch.equal(smooth["lazy.weight"], plain["lazy.weight"])
    assert not torch.equal(smooth["made.weight"], plain["made.weight"])
    live = task.network.state_dict()
    assert torch.equal(live["made.weight"], plain["made.weight"])
    assert not torch.equal(live["late.weight"], Three().state_dict()["late.weight"])
    for path in (tmp_path / "smooth/ema").glob("*/*.safetensors"):
        assert load_file(path).keys() == {"made.weight", "made.bias"}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Sets(13), settings)
    assert same(smooth, run(tmp_path / "cut", Sets(), settings)[0])


def test_the_best_weights_are_those_that_are_saved(tmp_path):
    task, scores = Sets(), iter([2.0, 1.0, 3.0, 4.0])
    seen = []

    def validate():
        seen.append({k: v.clone() for k, v in task.saved.state_dict().items()})
        return {"score": next(scores)}

    settings = SETTINGS.model_copy(update={"validate_every_images": 40, "select": "best"})
    assert same(run(tmp_path, task, settings, validate=validate)[0], seen[1])


def test_an_average_of_what_is_not_saved_is_refused(tmp_path):
    task = Sets()
    task.averaged = task.network.late
    with pytest.raises(ValueError, match="averaged: expected a part of what is saved, found Lin"):
        run(tmp_path, task)


class Sharing(Toy):
    """A phase, and every third step another that weighs its gradients against that one's."""

    def phases(self):
        made = list(self.network.made.parameters())
        return [
            Phase("made", made, OPTIONS),
            Phase("again", made, OPTIONS, every=3, shares="made"),
        ]

    def losses(self, batch, phase, at):
        found = super().losses(batch, "made", at)["loss"]
        return {"loss": found if phase == "made" else 0.01 * found}


def test_phases_that_share_step_one_optimiser(tmp_path):
    task, begun = Sharing(), {}
    run(tmp_path / "whole", task, begin=begun.update)
    assert list(begun) == ["made"]
    steps = {int(one["step"]) for one in begun["made"].state.values()}
    assert steps == {STEPS + len(range(0, STEPS, 3))}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", Sharing(stop_at=11))
    resumed = Sharing()
    run(tmp_path / "broken", resumed)
    assert same(resumed.network.state_dict(), task.network.state_dict())
