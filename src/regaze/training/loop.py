"""The training loop of every network: batches by step, phases, averaging, exact resume.

Batch, noise and dropout of step k depend on (seed, k) alone and the state holds everything else, so
an interrupted run ends in the same bytes as an uninterrupted one on the same machine. A state tells
what it is of; nothing goes on from one of other data, code or configuration, or of a training whose
results are written. Several processes share each batch and its draws
(:mod:`regaze.training.draws`), so their number changes the result by rounding only; see
``docs/training.md``.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import distributed, nn

from regaze.diffusion.averages import half_life_decay
from regaze.provenance import content_hash, versions
from regaze.training.averages import PowerAverages, prefix_of, smooth_into
from regaze.training.compiling import compile_network, told, uncompiled
from regaze.training.draws import WholeBatch
from regaze.training.loader import Batches, loading
from regaze.training.phases import Progress, Task
from regaze.training.settings import TrainSettings
from regaze.training.state import STATE, leaves, mark_finished, read_state, write_state

log = logging.getLogger("regaze.training")

_COMPUTING = ("torch", "torchvision", "numpy", "opencv-python-headless", "embreex")
"""Packages whose versions decide what a training computes from its data."""


class Interrupted(RuntimeError):
    """Training was asked to stop (SIGTERM); its state is saved, running it again continues."""


class _Losses(nn.Module):
    """A task as one module whose forward is its losses, so that DDP and autocast see them."""

    def __init__(self, task: Task, rank: int, world: int):
        super().__init__()
        self.network = task.network
        self._losses, self._rank, self._world = task.losses, rank, world

    def forward(self, batch, phase, at):
        if self._world == 1:
            return self._losses(batch, phase, at)
        count = len(next(iter(batch.values())))
        with WholeBatch(self._rank, self._world, count):
            return self._losses(batch, phase, at)


def resolve_precision(precision: str) -> str:
    """Return ``bf16`` or ``fp32``; ``auto`` asks the hardware."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


_OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def _use_tensor_cores() -> None:
    """Let single precision run as TF32 on GPUs, and cuDNN choose by trying."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def lr_factor(images: int, settings: TrainSettings) -> float:
    """Share of the peak learning rate after ``images`` of ``settings.images`` images."""
    if images < settings.warmup_images:
        return images / settings.warmup_images
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "stepped":
        before = images - settings.batch * settings.accumulate
        return settings.decay ** (before // settings.decay_images)
    done = min(1.0, images / settings.images)
    if settings.schedule == "linear":
        return min(1.0, 2 * (1 - done))
    return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * done, dtype=torch.float64))))


def train(
    task: Task,
    batches: Callable[[int, int], Batches],
    settings: TrainSettings,
    *,
    seed: int,
    state: str | Path,
    config: dict,
    validate: Callable[[], dict[str, float]] | None = None,
    show: Callable[[], np.ndarray] | None = None,
    show_every: int = 0,
    begin: Callable[[Mapping[str, torch.optim.Optimizer]], None] | None = None,
    finished: bool = True,
) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Train ``task.network``.

    With several processes (``RANK``, ``WORLD_SIZE`` and so on in the environment) only the first
    returns; the others end here, so that what follows is done and written once.

    Args:
        task: network and losses.
        batches: called with (rank, world), gives this process' batches.
        settings: length, rates, precision.
        seed: seed of noise and dropout.
        state: folder of the resumable state, outside the rule's outputs.
        config: everything that decides the result, data and code included; a state made with
            another one is passed over. Precision and versions of packages are added here.
        validate: called with the averaged weights in the network; ``score`` is minimised by
            ``select: best``, all values go into the curve.
        show: called as ``validate`` is, in the first process, every ``show_every`` images (0:
            never) and at the end: a picture (H,W,3) uint8 for TensorBoard.
        begin: called with the fresh optimisers by phase, before a saved state is looked for.
        finished: whether the training is over with the return; False where results are yet to be
            written, after which :func:`mark_finished` is called. Until then the same call goes on
            at the last step, afterwards it begins anew.

    Returns:
        ``(weights, curve)``: the state dict to save and one dictionary per logged point. The
        weights are the average of ``ema_halflife_images``, without it the first of ``ema_std``,
        without both the last ones.

    Raises:
        Interrupted: SIGTERM arrived; the state was saved first.
        FloatingPointError: the loss is not finite.
        RuntimeError: ``compile`` was asked for and is not possible here, or loader processes
            cannot work (:class:`regaze.training.loader.LoaderError`).
        ValueError: the same training was interrupted with another number of processes.
        SystemExit: with status 0, in every process but the first.
    """
    run = _Run(task, batches, settings, seed, Path(state), config, validate, begin)
    run.show, run.show_every = show, show_every
    result = run.go()
    run.accelerator.wait_for_everyone()
    if not run.accelerator.is_main_process:
        raise SystemExit(0)
    if finished:
        mark_finished(state)
    return result


def _copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


class _Sums:
    """Sums of what is logged, each with its own count, since phases may pause."""

    def __init__(self):
        self.values: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1


class _Run:
    show: Callable[[], np.ndarray] | None = None
    show_every = 0

    def __init__(self, task, batches, settings, seed, state, config, validate, begin):
        self.settings, self.seed, self.validate = settings, seed, validate
        self.state_file = state / STATE
        precision = resolve_precision(settings.precision)
        found = versions()
        packages = {name: found[name] for name in _COMPUTING}
        # Not the number of processes: a state of another number is not another training's.
        self.identity = leaves({**config, "precision": precision, "packages": packages})
        self.training = secrets.token_hex(8)
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no" if precision == "fp32" else precision,
            # A phase may train a part of the network, so the rest gets no gradient. It also keeps
            # DDP from sorting its buckets anew after the first step, as a resumed run would again.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.task, self.network = task, task.network
        self.device, self.world = self.accelerator.device, self.accelerator.num_processes
        self.network.to(self.device)
        if self.device.type == "cuda":
            _use_tensor_cores()
        if settings.compile:
            compile_network(self.network, state / "inductor")
        rank = self.accelerator.process_index
        self.losses = self.accelerator.prepare_model(_Losses(task, rank, self.world))
        self.batches = batches(rank, self.world)
        if settings.cache == "mmap":
            with self.accelerator.main_process_first():
                self.batches.keep_in(state)
        averages = state / "ema" / content_hash(config)
        self.saved = getattr(task, "saved", self.network)
        self.averaged = getattr(task, "averaged", self.saved)
        prefix = prefix_of(self.averaged, self.saved)
        self.powers = PowerAverages(self.averaged, settings.ema_std, averages, prefix)
        self.signals = None
        if self.world > 1:
            # On the CPU, so that asking does not wait for the GPU's queue.
            self.signals = distributed.new_group(backend="gloo")
        self.phases = {phase.name: phase for phase in task.phases()}
        self.options = {
            name: TrainSettings(**{**settings.model_dump(), **phase.options})
            for name, phase in self.phases.items()
        }
        self.optimisers = {
            name: _OPTIMIZERS[options.optimizer](
                self.phases[name].groups(),
                lr=options.lr,
                betas=options.betas,
                weight_decay=options.weight_decay,
                fused=True,
            )
            for name, options in self.options.items()
            if not self.phases[name].shares
        }
        averaged = settings.ema_halflife_images > 0
        self.average = _copied(self.averaged) if averaged else None
        self.best: tuple[float, dict] | None = None
        self.curve: list[dict] = []
        self.step, self.seconds, self.stopping = 0, 0.0, False
        per_step = settings.batch * settings.accumulate
        self.per_step = per_step
        self.steps = -(-settings.images // per_step)
        self.snapshot_every = settings.ema_snapshot_images or -(-settings.images // 32)
        self.grad_norm: torch.Tensor | None = None
        self.logged = (0, 0.0)
        self.writer = None
        if begin is not None:
            begin(self.optimisers)
        self._resume()
        if self.accelerator.is_main_process:
            self.powers.forget_after(self.step * self.per_step)

    def go(self):
        previous = None
        # Only the main thread may set handlers; elsewhere the state interval suffices.
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        try:
            self._loop()
        finally:
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)
        with self._averaged():
            weights = _copied(self.saved)
        if self.settings.select == "best" and self.best is not None:
            weights = self.best[1]
        return {key: value.cpu() for key, value in weights.items()}, self.curve

    def _averages(self) -> dict[str, torch.Tensor] | None:
        """The averaged weights that are validated and saved."""
        return self.average or next(iter(self.powers.values.values()), None)

    def _loop(self):
        if self.step >= self.steps:
            return
        parts = self.settings.accumulate
        loader = loading(
            self.batches,
            self.step * parts,
            self.steps * parts,
            workers=self.settings.workers,
            pin=self.device.type == "cuda",
            held=parts,
            processes=-(-self.world // self.settings.nodes),
        )
        self.writer = self._tensorboard()
        with closing(self.writer) if self.writer else nullcontext(), loader as stream:
            self._go_through(stream)

    def _go_through(self, stream: Iterator[dict[str, torch.Tensor]]):
        started = time.monotonic() - self.seconds
        sums = _Sums()
        self.losses.train()
        first = self.step
        self.logged = (first * self.per_step, self.seconds)
        while self.step < self.steps:
            compiling = self.settings.compile and self.step == first
            with told() if compiling else nullcontext():
                values = self._step(stream)
            sums.add(values)
            self.step += 1
            self.seconds = time.monotonic() - started
            stop = self._asked_to_stop()
            last = self.step == self.steps
            scores = self._look(last)
            if last or scores or self._due(self.settings.log_every_images):
                self._log(sums, scores)
                sums = _Sums()
            if last or stop or self._due(self.settings.state_every_images):
                # Rows of the curve end where a state is saved, so that a resumed curve has the
                # same averages as an unbroken one.
                if sums.counts:
                    self._log(sums, {})
                    sums = _Sums()
                # At the end as well: what is measured then may fail, or be stopped.
                self._save()
            if stop and not last:
                raise Interrupted(f"stopped at step {self.step} of {self.steps}; state saved")

    def _look(self, last: bool) -> dict[str, float]:
        """Validate, draw and store averages where it is time to."""
        scores = {}
        if self.validate and (last or self._due(self.settings.validate_every_images)):
            scores = self._validate()
        if self.writer and self.show and (self._due(self.show_every) or last and self.show_every):
            self._picture()
        # Before the state: a resumed run then has all snapshots of the unbroken one.
        due = self.powers.values and (last or self._due(self.snapshot_every))
        if due and self.accelerator.is_main_process:
            self.powers.snapshot(self.step * self.per_step)
        return scores

    def _asked_to_stop(self) -> bool:
        """Whether any process was: all of them have to end at the same step."""
        if self.signals is None:
            return self.stopping
        asked = torch.tensor(int(self.stopping))
        distributed.all_reduce(asked, distributed.ReduceOp.MAX, group=self.signals)
        return bool(asked)

    def _due(self, every: int) -> bool:
        """Whether this step passes a multiple of ``every`` images."""
        if every <= 0:
            return False
        seen = self.step * self.per_step
        return seen // every > (seen - self.per_step) // every

    def _step(self, stream) -> dict[str, torch.Tensor]:
        parts = []
        for _ in range(self.settings.accumulate):
            loaded = next(stream)
            moved = {k: v.to(self.device, non_blocking=True) for k, v in loaded.items()}
            parts.append(self.batches.finish(moved))
        logged: dict[str, torch.Tensor] = {}
        images = self.step * self.per_step
        for number, (name, phase) in enumerate(self.phases.items()):
            if self.step % phase.every or images < phase.after:
                continue
            optimiser, options = self.optimisers[phase.shares or name], self.options[name]
            # The 0 was the process once; all of them draw alike now.
            seeds = [self.seed, self.step, 0, number]
            noise_seed = int(content_hash(seeds), 16) >> 1
            torch.manual_seed(noise_seed)
            generator = torch.Generator(self.device).manual_seed(noise_seed)
            at = Progress(self.step, images, generator)
            lr = options.lr * lr_factor(images + self.per_step, options)
            for group in optimiser.param_groups:
                group["lr"] = lr * group["share"]
            optimiser.zero_grad(set_to_none=True)
            for place, batch in enumerate(parts, 1):
                # Gradients are exchanged once, when they are complete.
                partial = place < len(parts)
                with self.accelerator.no_sync(self.losses) if partial else nullcontext():
                    losses = self.losses(batch, name, at)
                    (losses["loss"] / len(parts)).backward()
                prefix = "" if len(self.phases) == 1 else f"{name}/"
                for key, value in losses.items():
                    share = value.detach().float() / len(parts)
                    logged[prefix + key] = logged.get(prefix + key, 0) + share
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            if options.clip_norm > 0:
                norm = nn.utils.clip_grad_norm_(parameters, options.clip_norm)
                self.grad_norm = norm
            elif self.settings.tensorboard and number == 0:
                self.grad_norm = self._norm_to_log(parameters)
            optimiser.step()
        self._average_step()
        return logged

    def _norm_to_log(self, parameters: list[nn.Parameter]) -> torch.Tensor | None:
        """The gradients' norm if this step is the last before a row of the curve."""
        every, seen = self.settings.log_every_images, self.step * self.per_step
        if (seen + self.per_step) // every == seen // every:
            return None
        return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def _average_step(self):
        seen = (self.step + 1) * self.per_step
        if self.average is not None:
            keep = half_life_decay(seen, self.per_step, self.settings.ema_halflife_images)
            smooth_into(self.average, self.averaged.state_dict(), keep)
        self.powers.update(self.averaged, seen, self.per_step)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The network with its averaged weights, not learning and not compiled."""
        live = _copied(self.averaged)
        average = self._averages()
        if average is not None:
            self.averaged.load_state_dict(average)
        self.network.eval()
        with torch.no_grad(), uncompiled(self.network):
            yield
        self.averaged.load_state_dict(live)
        self.losses.train()

    def _validate(self) -> dict[str, float]:
        assert self.validate is not None
        with self._averaged():
            scores = self.validate()
            if self.best is None or scores["score"] < self.best[0]:
                self.best = (scores["score"], _copied(self.saved))
        return {f"val_{name}": value for name, value in scores.items()}

    def _picture(self):
        assert self.show is not None and self.writer is not None
        with self._averaged():
            picture = self.show()
        images = self.step * self.per_step
        self.writer.add_image("validation", picture, images, dataformats="HWC")

    def _log(self, sums: _Sums, scores):
        found = sums.values
        if self.world > 1:
            values = torch.stack([value.double() for value in found.values()])
            found = dict(zip(found, self.accelerator.reduce(values, "mean"), strict=True))
        means = {name: float(value) / sums.counts[name] for name, value in found.items()}
        for name, value in means.items():
            if not torch.isfinite(torch.tensor(value)):
                raise FloatingPointError(f"step {self.step}: {name} is {value}")
        images = self.step * self.per_step
        rate = self.settings.lr * lr_factor(images, self.settings)
        row = {"step": self.step, "images": images, "lr": rate, "seconds": self.seconds}
        row |= means | scores
        self.curve.append(row)
        shown = " ".join(f"{name} {value:.4g}" for name, value in (means | scores).items())
        speed = images / max(self.seconds, 1e-9)
        left = (self.steps - self.step) * self.per_step / speed
        if not self.accelerator.is_main_process:
            return
        log.info(
            "step %d/%d %s lr %.2g %.1f img/s eta %ds",
            *(self.step, self.steps, shown, rate, speed, left),
        )
        if self.writer:
            before, since = self.logged
            rest = {"lr": rate}
            if self.seconds > since:
                rest["images_per_second"] = (images - before) / (self.seconds - since)
            if self.grad_norm is not None:
                rest["grad_norm"] = float(self.grad_norm)
            for name, value in (means | scores | rest).items():
                self.writer.add_scalar(name, value, images)
        self.logged, self.grad_norm = (images, self.seconds), None

    def _tensorboard(self):
        if not (self.settings.tensorboard and self.accelerator.is_main_process):
            return None
        from torch.utils.tensorboard import SummaryWriter

        images = self.step * self.per_step
        # Hides what was written of the steps to come: by a run that was stopped after its last
        # state, and by earlier trainings where this one begins.
        purge = images + 1 if images else 0
        return SummaryWriter(self.state_file.parent / "tensorboard", purge_step=purge)

    def _save(self):
        if self.writer:
            # Of what is before the state, nothing will be written again.
            self.writer.flush()
        if self.accelerator.is_main_process:
            self._write()
        # Whoever ends first makes torchrun end the others.
        self.accelerator.wait_for_everyone()

    def _write(self):
        content = {
            "config": content_hash(self.identity),
            "identity": self.identity,
            "training": self.training,
            "processes": self.world,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average,
            "powers": self.powers.state_dict(),
            "best": self.best,
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "curve": self.curve,
        }
        write_state(self.state_file, content)

    def _resume(self):
        # A process of several is told "cpu:0", which torch.load does not know.
        device = "cpu" if self.device.type == "cpu" else self.device
        content = read_state(self.state_file, self.identity, self.world, self.steps, device)
        if content is None:
            return
        self.network.load_state_dict(content["network"])
        self.average, self.best = content["average"], content["best"]
        self.powers.load_state_dict(content["powers"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        self.curve, self.step = content["curve"], content["step"]
        self.seconds, self.training = content["seconds"], content["training"]
        log.info("resuming at step %d of %d", self.step, self.steps)
