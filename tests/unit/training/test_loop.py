"""The training loop: exact resume, averaging, schedules, refusal of foreign states."""

import logging
import os
import resource
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from regaze.diffusion.averages import power_decay
from regaze.provenance import versions
from regaze.training import compiling, loop
from regaze.training.loop import Interrupted, lr_factor, train
from regaze.training.phases import Phase
from regaze.training.settings import TrainSettings
from regaze.training.state import mark_finished

SETTINGS = TrainSettings(
    images=160,
    batch=8,
    lr=0.01,
    warmup_images=16,
    ema_halflife_images=24,
    log_every_images=16,
    state_every_images=40,
    tensorboard=False,
    precision="fp32",
)


class Toy:
    """A network with dropout and noise in its loss, so that every random stream is exercised."""

    def __init__(self, stop_at=None, kill=False):
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 1)
        )
        self.calls, self.stop_at, self.kill = 0, stop_at, kill

    def phases(self):
        return [Phase("main", list(self.network.parameters()))]

    def losses(self, batch, phase, at):
        self.calls += 1
        if self.calls == self.stop_at:
            if self.kill:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        noise = torch.randn(batch["x"].shape, generator=at.generator)
        error = self.network(batch["x"] + 0.1 * noise) - batch["x"].sum(1, keepdim=True)
        return {"loss": (error**2).mean(), "size": error.abs().mean()}


class Numbers:
    def __init__(self, rank=0, world=1):
        self.seed = rank

    def load(self, step):
        return {"x": torch.randn(8, 3, generator=torch.Generator().manual_seed(step))}

    def finish(self, batch):
        return batch


def run(state, task=None, settings=SETTINGS, config=None, **kwargs):
    config = {"a": 1} if config is None else config
    return train(task or Toy(), Numbers, settings, seed=3, state=state, config=config, **kwargs)


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


@pytest.mark.parametrize("kill", [False, True], ids=["sigterm", "kill"])
@pytest.mark.parametrize("stop_at", [1, 7, 13, 20])
def test_interrupted_run_ends_in_the_same_bytes(tmp_path, stop_at, kill):
    whole, curve = run(tmp_path / "whole")
    last = stop_at == 20 and not kill
    if last:
        run(tmp_path / "cut", Toy(stop_at, kill))
    else:
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            run(tmp_path / "cut", Toy(stop_at, kill))
    resumed = Toy()
    again, resumed_curve = run(tmp_path / "cut", resumed)
    assert same(whole, again)
    assert [row["loss"] for row in curve][-1] == pytest.approx(resumed_curve[-1]["loss"])
    if not kill and not last:
        assert resumed.calls == 20 - stop_at
    assert not list((tmp_path / "cut").glob(".*"))


class Still:
    """A linear fit without any draws, whose batches are all of one kind."""

    def __init__(self):
        torch.manual_seed(0)
        self.network = nn.Linear(3, 1)

    def phases(self):
        return [Phase("main", list(self.network.parameters()))]

    def losses(self, batch, phase, at):
        error = self.network(batch["x"]) - batch["x"].sum(1, keepdim=True)
        return {"loss": (error**2).mean()}


class Together(Numbers):
    """Two batches as one."""

    def load(self, step):
        parts = [super(Together, self).load(2 * step + part)["x"] for part in range(2)]
        return {"x": torch.cat(parts)}


PLAIN = SETTINGS.model_copy(update={"ema_halflife_images": 0, "warmup_images": 0})


def test_the_first_step_goes_against_the_gradient_as_far_as_the_rate(tmp_path):
    # The first moments of Adam are the gradient and its square, so their quotient is its sign.
    task, twin = Still(), Still()
    settings = PLAIN.model_copy(update={"images": 8, "schedule": "constant"})
    after, _ = run(tmp_path, task, settings)
    twin.losses(Numbers().load(0), "main", None)["loss"].backward()
    for name, weight in twin.network.named_parameters():
        torch.testing.assert_close(after[name], weight.detach() - 0.01 * weight.grad.sign())


def test_accumulated_passes_are_one_of_their_batches_together(tmp_path):
    parts = PLAIN.model_copy(update={"accumulate": 2})
    one = PLAIN.model_copy(update={"batch": 16})
    accumulated, _ = run(tmp_path / "parts", Still(), parts)
    options = {"seed": 3, "state": tmp_path / "one", "config": {}}
    whole, _ = train(Still(), Together, one, **options)
    for name, value in whole.items():
        torch.testing.assert_close(accumulated[name], value, atol=1e-6, rtol=1e-5)
    apart, _ = run(tmp_path / "apart", Still(), PLAIN)
    assert not same(apart, accumulated)


def test_draws_of_a_step_depend_on_the_seed_and_the_step_alone(tmp_path):
    def drawn(name, seed, more=0):
        found = []

        class Watched(Still):
            def losses(self, batch, phase, at):
                found.append((torch.rand(3), torch.rand(3, generator=at.generator)))
                # However much a step draws, the next one does not notice.
                torch.rand(more * len(found)), torch.rand(more, generator=at.generator)
                return super().losses(batch, phase, at)

        train(Watched(), Numbers, PLAIN, seed=seed, state=tmp_path / name, config={})
        return torch.stack([torch.cat(pair) for pair in found])

    first = drawn("first", 3)
    assert torch.equal(first, drawn("more", 3, more=5))
    others = torch.cat([first, drawn("other", 4)])
    assert len({tuple(row.tolist()) for row in others}) == len(others)


def test_workers_do_not_change_the_result(tmp_path):
    here, _ = run(tmp_path / "a")
    settings = SETTINGS.model_copy(update={"workers": 2})
    assert same(here, run(tmp_path / "b", settings=settings)[0])


def test_mapped_batches_are_told_where(tmp_path):
    class Kept(Numbers):
        def keep_in(self, folder):
            told.append(folder)

    told, settings = [], SETTINGS.model_copy(update={"cache": "mmap"})
    train(Toy(), Kept, settings, seed=3, state=tmp_path, config={})
    assert told == [tmp_path]


def test_gpus_share_the_batch_evenly():
    with pytest.raises(ValueError, match=r"batch: expected a multiple of gpus \(4\), found 6"):
        TrainSettings(batch=6, gpus=4)


def test_state_of_another_configuration_is_refused_loudly(tmp_path, caplog):
    with pytest.raises(Interrupted):
        run(tmp_path, Toy(7))
    with caplog.at_level(logging.WARNING):
        other, _ = run(tmp_path, config={"a": 2})
    assert "state of another configuration" in caplog.text
    assert same(other, run(tmp_path / "fresh")[0])


def test_truncated_state_is_refused_loudly(tmp_path, caplog):
    with pytest.raises(Interrupted):
        run(tmp_path, Toy(7))
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        again, _ = run(tmp_path)
    assert "unreadable state" in caplog.text
    assert same(again, run(tmp_path / "fresh")[0])


def test_average_is_a_smoothed_path_and_off_by_zero(tmp_path):
    smooth, _ = run(tmp_path / "a")
    path = []

    class Watched(Toy):
        def losses(self, *args):
            path.append({k: v.clone() for k, v in self.network.state_dict().items()})
            return super().losses(*args)

    plain, _ = run(tmp_path / "b", Watched(), PLAIN.model_copy(update={"warmup_images": 16}))
    assert not same(smooth, plain)
    for key, value in smooth.items():
        if value.is_floating_point():
            states = torch.stack([state[key] for state in (*path, plain)])
            assert (value >= states.amin(0) - 1e-6).all(), key
            assert (value <= states.amax(0) + 1e-6).all(), key
            # A half life of three steps has forgotten where it began.
            assert (value - plain[key]).norm() <= (value - path[0][key]).norm(), key
    assert torch.equal(smooth["1.num_batches_tracked"], plain["1.num_batches_tracked"])


def test_best_validation_is_kept(tmp_path):
    task, scores = Toy(), iter([3.0, 1.0, 2.0, 5.0])
    seen = []

    def validate():
        seen.append({k: v.clone() for k, v in task.network.state_dict().items()})
        return {"score": next(scores)}

    settings = SETTINGS.model_copy(update={"validate_every_images": 40, "select": "best"})
    weights, curve = run(tmp_path, task, settings, validate=validate)
    assert same(weights, seen[1])
    assert [row["val_score"] for row in curve if "val_score" in row] == [3.0, 1.0, 2.0, 5.0]


def test_infinite_loss_stops_training(tmp_path):
    task = Toy()
    task.losses = lambda *_: {"loss": next(task.network.parameters()).sum() * float("inf")}
    with pytest.raises(FloatingPointError, match="step .*: loss is"):
        run(tmp_path, task)


def test_schedules():
    linear = TrainSettings(images=100, warmup_images=10)
    assert [lr_factor(i, linear) for i in (0, 5, 10, 50, 75, 100)] == [0, 0.5, 1, 1, 0.5, 0]
    cosine = linear.model_copy(update={"schedule": "cosine", "warmup_images": 0})
    assert [round(lr_factor(i, cosine), 6) for i in (0, 50, 100)] == [1, 0.5, 0]
    constant = linear.model_copy(update={"schedule": "constant"})
    assert [lr_factor(i, constant) for i in (5, 10, 100)] == [0.5, 1, 1]


WIDTHS = {"ema_std": (0.05, 0.1), "ema_snapshot_images": 40}


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((0.05, 0.29), "expected widths from 0.001 to 0.28, found 0.29"),
        ((0.1, 0.1), r"expected different widths, found \[0.1, 0.1\]"),
    ],
)
def test_widths_that_no_average_has_are_refused(widths, message):
    with pytest.raises(ValueError, match=f"(?s)ema_std.*{message}"):
        TrainSettings(ema_std=widths)


def test_power_averages_are_followed_stored_and_resumed(tmp_path):
    settings = SETTINGS.model_copy(update=WIDTHS)
    whole, _ = run(tmp_path / "whole", settings=settings)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", Toy(9), settings)
    assert same(whole, run(tmp_path / "cut", settings=settings)[0])
    folder = next((tmp_path / "whole/ema").iterdir())
    names = sorted(path.name for path in folder.iterdir())
    numbers = [f"{images:012d}" for images in (40, 80, 120, 160)]
    assert names == [f"std{w}-images{n}.safetensors" for w in ("0.0500", "0.1000") for n in numbers]
    for name in names:
        assert (folder / name).read_bytes() == (
            tmp_path / "cut/ema" / folder.name / name
        ).read_bytes()
    assert same(whole, run(tmp_path / "without")[0])


def test_a_power_average_is_its_formula_and_is_saved_without_a_half_life(tmp_path):
    settings = SETTINGS.model_copy(update={"ema_std": (0.1,), "ema_halflife_images": 0})
    weights, _ = run(tmp_path, settings=settings)
    path = []

    class Watched(Toy):
        def losses(self, *args):
            path.append({k: v.clone() for k, v in self.network.state_dict().items()})
            return super().losses(*args)

    task = Watched()
    live, _ = run(tmp_path / "live", task, SETTINGS.model_copy(update={"ema_halflife_images": 0}))
    average = {}
    for number, state in enumerate([*path[1:], live], 1):
        keep = float(power_decay(number * 8, 8, 0.1))
        for key, value in state.items():
            held = average.get(key, torch.zeros_like(value))
            average[key] = keep * held + (1 - keep) * value if value.is_floating_point() else value
    for key, value in average.items():
        assert torch.allclose(weights[key], value, atol=1e-6), key


def test_compiled_training_computes_the_same_and_keeps_names(tmp_path, monkeypatch):
    monkeypatch.setenv("REGAZE_COMPILE_BACKEND", "aot_eager")
    torch._dynamo.reset()
    settings = SETTINGS.model_copy(update={"compile": True})
    plain, _ = run(tmp_path / "plain")
    compiled, _ = run(tmp_path / "compiled", settings=settings, validate=lambda: {"score": 1.0})
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        assert torch.allclose(compiled[key], value, rtol=1e-4, atol=1e-6), key


def test_a_compiler_that_fails_is_told_with_the_way_out(tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise OSError("no compiler here")

    torch._dynamo.reset()
    torch._dynamo.register_backend(broken, "broken")
    monkeypatch.setenv("REGAZE_COMPILE_BACKEND", "broken")
    settings = SETTINGS.model_copy(update={"compile": True})
    with pytest.raises(RuntimeError, match="no compiler here.*set train.compile: false"):
        run(tmp_path, settings=settings)


def test_optimisers_may_be_prepared_and_a_saved_state_wins(tmp_path):
    seen = []

    def begin(optimisers):
        seen.append(sorted(optimisers))
        for group in optimisers["main"].param_groups:
            for parameter in group["params"]:
                optimisers["main"].state[parameter] = {
                    "step": torch.tensor(10.0),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.ones_like(parameter),
                }

    warm, _ = run(tmp_path / "warm", begin=begin)
    assert seen == [["main"]] and not same(warm, run(tmp_path / "cold")[0])
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", Toy(7), begin=begin)
    assert same(warm, run(tmp_path / "cut", begin=begin)[0])


def test_tensorboard_has_pictures_speed_and_gradients(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = SETTINGS.model_copy(update={"tensorboard": True})
    picture = torch.zeros(4, 6, 3, dtype=torch.uint8).numpy()
    plain, _ = run(tmp_path, settings=settings, show=lambda: picture, show_every=80)
    assert same(plain, run(tmp_path / "b")[0])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"loss", "lr", "grad_norm", "images_per_second"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images("validation")] == [80, 160]
    assert [event.step for event in events.Scalars("grad_norm")] == list(range(16, 161, 16))
    assert all(event.value > 0 for event in events.Scalars("grad_norm"))


def test_stepped_rate_falls_at_multiples_of_its_images():
    stepped = TrainSettings(
        images=100, batch=2, warmup_images=0, schedule="stepped", decay=0.5, decay_images=4
    )
    # The first of a step's images decides: steps 0 and 1 have seen 0 and 2 images.
    found = [lr_factor(2 * (step + 1), stepped) for step in range(6)]
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_gradients_are_no_longer_than_the_norm_they_are_clipped_to(tmp_path):
    norms = {}

    def watched(clip):
        def begin(optimisers):
            def look(optimiser, *_):
                gradients = [p.grad for p in optimiser.param_groups[0]["params"]]
                norms.setdefault(clip, []).append(float(nn.utils.get_total_norm(gradients)))

            optimisers["main"].register_step_pre_hook(look)

        settings = SETTINGS.model_copy(update={"clip_norm": clip})
        return run(tmp_path / str(clip), settings=settings, begin=begin)[0]

    plain = watched(0.0)
    assert same(plain, watched(1e6)) and not same(plain, watched(0.1))
    assert len(norms[0.1]) == 20 and max(norms[0.1]) == pytest.approx(0.1, rel=1e-4)
    assert max(norms[0.0]) > 0.2


def test_elsewhere_than_in_the_main_thread_training_is_the_same(tmp_path):
    found, handler = [], signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: found.append(run(tmp_path / "thread")[0]))
    thread.start()
    thread.join()
    assert same(found[0], run(tmp_path / "main")[0])
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_state_that_cannot_be_written_is_told_with_the_room_there_is(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(OSError, match=r"state\.pt: the state cannot be written, \d+ MiB are"):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_stands_still_gives_no_speed(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 5.0))
    run(tmp_path, settings=SETTINGS.model_copy(update={"tensorboard": True}))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert "loss" in events.Tags()["scalars"]
    assert "images_per_second" not in events.Tags()["scalars"]


@pytest.fixture
def inductor():
    """Options of torch's compiler; monkeypatch would delete one when it takes a change back."""
    from torch._inductor import config

    with config.patch(fallback_random=False):
        yield config


def test_compiled_code_is_kept_in_its_folder_and_draws_as_uncompiled(
    tmp_path, monkeypatch, inductor
):
    for name in (compiling.BACKEND, "TORCHINDUCTOR_CACHE_DIR"):
        # Set first, so that whatever the test leaves is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    class Network(nn.Linear):
        def compile(self, **options):
            self.asked = options

    network = Network(3, 2)
    compiling.compile_network(network, tmp_path / "inductor")
    assert network.asked == {"dynamic": False, "backend": "inductor"} and inductor.fallback_random
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")
    # A folder that the user chose stays.
    compiling.compile_network(network, tmp_path / "other")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")


def test_compiling_for_a_gpu_asks_for_triton_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.delenv(compiling.BACKEND, raising=False)
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    on_a_gpu = SimpleNamespace(device=torch.device("cuda"))
    network = SimpleNamespace(parameters=lambda: iter([on_a_gpu]))
    with pytest.raises(RuntimeError, match="needs triton.*make gpu"):
        compiling.compile_network(network, tmp_path)


def interrupted(folder, at=7, **kwargs):
    with pytest.raises(Interrupted):
        run(folder, Toy(at), **kwargs)
    return torch.load(folder / "state.pt", weights_only=True)


def steps_of(folder, **kwargs):
    task = Toy()
    return run(folder, task, **kwargs), task.calls


def test_a_finished_training_is_begun_anew(tmp_path):
    (first, curve), _ = steps_of(tmp_path)
    (again, second), calls = steps_of(tmp_path)
    assert calls == 20 and same(first, again)
    assert [row["loss"] for row in curve] == [row["loss"] for row in second]


def test_until_results_are_written_a_training_goes_on_at_its_end(tmp_path):
    (first, curve), _ = steps_of(tmp_path, finished=False)
    (again, second), calls = steps_of(tmp_path, finished=False)
    assert calls == 0 and same(first, again) and curve == second
    mark_finished(tmp_path)
    assert steps_of(tmp_path)[1] == 20


def test_a_new_training_after_a_finished_one_is_continued(tmp_path):
    (first, _), _ = steps_of(tmp_path)
    interrupted(tmp_path)
    (again, _), calls = steps_of(tmp_path)
    assert calls == 13 and same(first, again)


def test_what_a_finished_training_left_is_there_to_start_from(tmp_path):
    run(tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 20 and state["optimisers"]["main"]["state"][0]["step"] == 20


def test_a_folder_without_a_state_has_nothing_to_be_finished(tmp_path):
    mark_finished(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"training": "another"}'])
def test_only_the_state_of_that_very_training_is_finished(tmp_path, content):
    interrupted(tmp_path)
    (tmp_path / "finished.json").write_text(content)
    assert steps_of(tmp_path)[1] == 13


@pytest.mark.parametrize(
    ("name", "found", "told"),
    [
        ("versions", lambda: versions() | {"torch": "0", "pillow": "0"}, "(packages.torch)"),
        ("resolve_precision", lambda _: "bf16", "(precision)"),
    ],
)
def test_other_packages_and_precisions_begin_anew(tmp_path, monkeypatch, caplog, name, found, told):
    interrupted(tmp_path)
    monkeypatch.setattr(loop, name, found)
    # Accelerate keeps the first precision of a process.
    AcceleratorState._reset_state()
    try:
        assert steps_of(tmp_path)[1] == 20
    finally:
        AcceleratorState._reset_state()
    assert "state of another configuration" in caplog.text and told in caplog.text


def test_what_differs_is_named(tmp_path, caplog):
    interrupted(tmp_path, config={"train": {"lr": 1, "batch": 2}, "code": "a", "old": 3})
    run(tmp_path, config={"train": {"lr": 2, "batch": 2}, "code": "b", "new": 4})
    assert "other data or code (code, new, old, train.lr), starting afresh" in caplog.text
    torch.save({"config": "0" * 16}, tmp_path / "state.pt")
    run(tmp_path)
    assert "(of an earlier version), starting afresh" in caplog.text
    interrupted(tmp_path, config={str(number): 0 for number in range(9)})
    run(tmp_path, config={str(number): 1 for number in range(9)})
    assert "(0, 1, 2, 3, 4, 5 and 3 more), starting afresh" in caplog.text


@pytest.mark.parametrize("processes", [2, 4])
def test_a_state_of_other_processes_is_refused_and_kept(tmp_path, processes):
    state = interrupted(tmp_path)
    torch.save(state | {"processes": processes}, tmp_path / "state.pt")
    kept = (tmp_path / "state.pt").read_bytes()
    words = rf"state\.pt: .* at step 7 of 20 with {processes} processes, found 1, .*train\.gpus"
    with pytest.raises(ValueError, match=words):
        run(tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == kept
    torch.save(state, tmp_path / "state.pt")
    assert steps_of(tmp_path)[1] == 13


def test_a_finished_state_of_other_processes_is_passed_over(tmp_path):
    run(tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(state | {"processes": 2}, tmp_path / "state.pt")
    assert steps_of(tmp_path)[1] == 20


def test_snapshots_are_of_one_run_alone(tmp_path):
    def images(folder):
        return sorted(int(path.stem[-12:]) for path in folder.glob("ema/*/*"))

    often, seldom = (
        SETTINGS.model_copy(update={"ema_std": (0.1,), "ema_snapshot_images": every})
        for every in (40, 80)
    )
    run(tmp_path, settings=often)
    assert images(tmp_path) == [40, 80, 120, 160]
    run(tmp_path, settings=seldom)
    assert images(tmp_path) == [80, 160]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Toy(14, kill=True), settings=often)
    # Of 13 steps the state knows 10, and they are gone that were written later.
    state = torch.load(tmp_path / "killed/state.pt", weights_only=True)
    torch.save(state | {"step": 5}, tmp_path / "killed/state.pt")
    run(tmp_path / "killed", settings=seldom)
    assert images(tmp_path / "killed") == [40, 80, 160]


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return [event.step for event in found.Scalars("loss")]


def test_tensorboard_shows_every_step_once(tmp_path):
    settings = SETTINGS.model_copy(update={"tensorboard": True, "log_every_images": 8})
    whole = list(range(8, 161, 8))
    # The state is of 120 images: two rows are written again.
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Toy(18, kill=True), settings)
    assert events(tmp_path) == whole[:17]
    run(tmp_path, settings=settings)
    assert events(tmp_path) == whole
    # Neither a training that begins anew, nor one that is stopped and goes on, doubles any.
    with pytest.raises(Interrupted):
        run(tmp_path, Toy(3), settings)
    assert events(tmp_path) == whole[:3]
    run(tmp_path, settings=settings)
    assert events(tmp_path) == whole
