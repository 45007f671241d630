"""What every redirection method has to do, checked at tiny size: ``regaze test-method``.

A check is a function of a :class:`Bench`, which has everything that the method's declaration asks
for, made up: faces, inputs and untrained networks. It raises :class:`Failed` (any other error is a
failure too) or :class:`NotApplicable`. The unit tests of methods call the same checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

import regaze.redirectors
from regaze.factors import FACTORS
from regaze.methods import methods
from regaze.redirectors.base import (
    Batch,
    Perturbable,
    Redirector,
    build_redirector,
    divided,
    selected,
)
from regaze.redirectors.bench import BATCH, STEPS, Bench, Failed
from regaze.redirectors.declaration import declared_by
from regaze.redirectors.inputs import check_names
from regaze.redirectors.networks import load_network, load_redirector
from regaze.training.phases import Progress

_CLOSE = 2e-3
"""Of pictures in [-1, 1]: more than rounding makes of another batch, less than a grey level."""


class NotApplicable(Exception):
    """A check asks for something that the method does not claim to do; the message says what."""


@dataclass(frozen=True)
class Outcome:
    """What became of a check.

    Attributes:
        check: its name.
        state: ``passed``, ``failed`` or ``not applicable``.
        reason: what was found, or why it does not apply; empty where it passed.
    """

    check: str
    state: str
    reason: str = ""


def _expect(fact: bool, told: str) -> None:
    if not fact:
        raise Failed(told)


def _finite(found: Tensor) -> None:
    _expect(bool(found.isfinite().all()), "expected numbers, found NaN or infinity")


def _same(found: Tensor, wanted: Tensor, told: str, within: float = _CLOSE) -> None:
    _expect(found.shape == wanted.shape, f"{told}: {tuple(found.shape)} and {tuple(wanted.shape)}")
    off = float((found.float() - wanted.float()).abs().max())
    _expect(off <= within, f"{told}: they differ by up to {off:.3g}, expected at most {within:g}")


def _rows(batch: Batch, rows) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in batch.items()}


def _pictures(redirector: Redirector, batch: Batch, **options) -> Tensor:
    with torch.no_grad():
        return redirector.redirect(batch, seed=0, **options)


@cache
def _needs_torch(module: str, path: tuple[str, ...]) -> bool:
    program = (
        "import importlib, sys, regaze.redirectors as r; r.__path__ = sys.argv[2:]; "
        "importlib.import_module(sys.argv[1]); sys.exit(3 * ('torch' in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    line = [sys.executable, "-c", program, module, *path]
    return subprocess.run(line, env=environment, capture_output=True).returncode == 3


def _loss(redirector: Redirector, batch: Batch, phase) -> Tensor:
    at = Progress(1, phase.after, torch.Generator().manual_seed(0))
    return redirector.losses(batch, phase.name, at)["loss"]


def check_declaration(bench: Bench) -> None:
    """It is made without torch, and of what a trained model's record keeps; its names are known."""
    own, config = bench.declaration, bench.config
    module = f"{methods()[config['class']]}.settings"
    _expect(
        not _needs_torch(module, tuple(regaze.redirectors.__path__)),
        f"{module} imports torch, which the Snakefile would wait for at every start",
    )
    kept = json.loads(json.dumps(config))
    again = declared_by(kept)
    _expect(
        json.dumps(_plain(again)) == json.dumps(_plain(own)),
        "it says something else of the options that model.json keeps, in which tuples are lists",
    )
    _expect(bool(own.condition.strip()), "condition: expected words for the report, found none")
    check_names(own)
    configs = {one.role: bench.models[one.entry].tiny().resolve() for one in own.networks
               if one.section == "models"}  # fmt: skip
    type(bench.models[bench.name]).check_networks(config, configs)


def _plain(declaration) -> dict:
    inputs = [replace(one, options=dict(one.options)) for one in declaration.inputs]
    return {"rest": repr(replace(declaration, inputs=())), "inputs": [vars(one) for one in inputs]}


def check_building(bench: Bench) -> None:
    """It is built of its options alone; what is trained, averaged and saved lie in one another."""
    redirector = bench.built()
    network = set(redirector.network.parameters())
    saved, averaged = set(redirector.saved.parameters()), set(redirector.averaged.parameters())
    _expect(averaged <= saved, "averaged: expected a part of what is saved")
    _expect(saved <= network, "saved: expected a part of network")
    phases = redirector.phases()
    names = [phase.name for phase in phases]
    _expect(len(set(names)) == len(names) > 0, f"phases: expected different names, found {names}")
    for phase in phases:
        own = list(phase.parameters)
        _expect(bool(own), f"phase {phase.name}: expected parameters, found none")
        _expect(set(own) <= network, f"phase {phase.name}: trains what is no part of network")
    again = build_redirector(json.loads(json.dumps(bench.config)), bench.sampling)
    wanted, found = (set(one.saved.state_dict()) for one in (redirector, again))
    _expect(wanted == found, f"saved: other weights after attach: {sorted(wanted ^ found)[:4]}")


def check_learning(bench: Bench) -> None:
    """Every phase has a finite loss whose gradient reaches what it trains, no frozen network."""
    redirector, batch = bench.built(), bench.batch()
    redirector.network.train()
    frozen = {role: load_network(folder) for role, folder in bench.networks.items()}
    redirector.attach(frozen)
    for phase in redirector.phases():
        for parameter in redirector.network.parameters():
            parameter.grad = None
        at = Progress(max(1, phase.every), phase.after, torch.Generator().manual_seed(0))
        found = redirector.losses(batch, phase.name, at)
        for name, value in found.items():
            _expect(value.ndim == 0, f"phase {phase.name}: {name}: expected a scalar")
            _expect(
                bool(value.isfinite()), f"phase {phase.name}: {name} is {float(value.detach())}"
            )
        found["loss"].backward()
        count = sum(p.grad is not None and bool(p.grad.any()) for p in phase.parameters)
        _expect(count > 0, f"phase {phase.name}: its loss reaches none of its parameters")
    for role, network in frozen.items():
        moved = [name for name, one in network.named_parameters() if one.grad is not None]
        _expect(not moved, f"{role}: expected frozen, found gradients of {', '.join(moved[:3])}")


def check_validation(bench: Bench) -> None:
    """The loss that checkpoints are chosen by is a number, without gradients, and repeatable."""
    redirector, batch = bench.built().eval(), bench.batch(part="val")
    found = []
    for _ in range(2):
        at = Progress(0, 0, torch.Generator().manual_seed(0))
        with torch.no_grad():
            value = redirector.validation_loss(batch, at)
        _expect(value.ndim == 0 and bool(value.isfinite()), f"expected a number, found {value}")
        found.append(float(value))
    _expect(found[0] == found[1], f"expected the same number again, found {found[0]}, {found[1]}")


def check_reloading(bench: Bench) -> None:
    """Trained for some steps it has changed; from disk it makes the pictures of before."""
    folder, trained = bench.unbroken
    start = {k: v.clone() for k, v in bench.built().saved.state_dict().items()}
    weights = load_file(folder / "model.safetensors")
    _expect(
        any(not torch.equal(weights[key], value) for key, value in start.items()),
        f"no weight has changed in {STEPS} steps",
    )
    batch = bench.asked()
    loaded, _ = load_redirector(folder, bench.sampling)
    _same(_pictures(loaded, batch), _pictures(trained, batch), "pictures of the reloaded model")


def check_resuming(bench: Bench) -> None:
    """A training that is killed in the middle and run again ends as an unbroken one, to the bit."""
    whole, _ = bench.unbroken
    name = f"{bench.name}-resumed"
    try:
        bench.trained(name, _dying(STEPS // 2 + 1))
        raise Failed(f"expected {STEPS} steps, found fewer than {STEPS // 2 + 1}")
    except _Killed:
        pass
    again = bench.trained(name)
    weights = [load_file(folder / "model.safetensors") for folder in (whole, again)]
    different = [key for key in weights[0] if not torch.equal(weights[0][key], weights[1][key])]
    _expect(not different, f"other weights after a resume: {', '.join(different[:4])}")
    curves = [
        pd.read_csv(folder / "curve.csv").drop(columns="seconds") for folder in (whole, again)
    ]
    _expect(curves[0].equals(curves[1]), "another curve after a resume")


class _Killed(Exception):
    pass


def _dying(step: int) -> Callable[[Mapping, Mapping], Redirector]:
    def build(config, sampling):
        redirector = build_redirector(config, sampling)
        losses = redirector.losses

        def dying(batch, phase, at):
            if at.step == step:
                raise _Killed
            return losses(batch, phase, at)

        redirector.losses = dying
        return redirector

    return build


def check_pictures(bench: Bench) -> None:
    """Pictures are (B, 3, H, W) in [-1, 1], and are told what they cost and came of."""
    redirector, batch = bench.woken(), bench.asked()
    made = _pictures(redirector, batch)
    wanted = (len(batch["pair"]), 3, bench.size, bench.size)
    _expect(tuple(made.shape) == wanted, f"expected {wanted}, found {tuple(made.shape)}")
    _finite(made)
    most = float(made.abs().max())
    _expect(most <= 1 + 1e-6, f"expected values from -1 to 1, found {most:.4g}")
    cost = redirector.evaluations_per_image()
    _expect(isinstance(cost, int) and cost >= 1, f"evaluations_per_image: found {cost!r}")
    size = redirector.bytes_per_image()
    _expect(size is None or size > 0, f"bytes_per_image: expected None or bytes, found {size!r}")
    told = redirector.describe_sampling()
    missing = {"sampler", "guidance"} - set(told)
    _expect(not missing, f"describe_sampling: lacks {', '.join(sorted(missing))}")
    for name, value in told.items():
        plain = isinstance(value, str | int | float)
        _expect(plain, f"describe_sampling: {name}: expected text or a number, found {value!r}")


def check_rows_alone(bench: Bench) -> None:
    """A picture depends on its row, pair and seed, not on size or order of its batch."""
    redirector, batch = bench.woken(), bench.asked()
    torch.manual_seed(5)
    whole = _pictures(redirector, batch)
    count = len(whole)
    for rows in ([count - 1], [2, 0], list(range(count))[::-1]):
        torch.manual_seed(6 + len(rows))
        told = f"pictures of rows {rows} alone and among {count}"
        _same(_pictures(redirector, _rows(batch, rows)), whole[rows], told)


def check_seed(bench: Bench) -> None:
    """The same seed gives the same pictures, whatever else was drawn at random before."""
    redirector, batch = bench.woken(), bench.asked()
    torch.manual_seed(5)
    first = _pictures(redirector, batch)
    torch.manual_seed(6)
    _expect(torch.equal(first, _pictures(redirector, batch)), "other pictures of the same seed")


def check_edit_of_invert(bench: Bench) -> None:
    """``redirect`` is ``edit`` of ``invert``, which see neither target's picture nor each other."""
    redirector, batch = bench.woken(), bench.asked()
    whole = _pictures(redirector, batch)
    source, target = divided(batch)
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        first = redirector.edit(state, target, seed=0)
        # A sweep asks one state for many pictures.
        redirector.edit(state, {**target, "target_gaze": target["target_gaze"] + 0.2}, seed=0)
        again = redirector.edit(state, target, seed=0)
    _same(first, whole, "edit of invert, and redirect", 1e-5)
    _same(again, first, "the same edit after another one of the same state", 0)


def check_one_source(bench: Bench) -> None:
    """The state of one source makes the pictures that a row per target makes."""
    redirector, batch = bench.woken(), bench.asked()
    source, target = divided(batch)
    alone = {name: value[:1] for name, value in source.items()}
    many = {name: value[:1].expand_as(value) for name, value in source.items()}
    with torch.no_grad():
        wanted = redirector.edit(redirector.invert(many, seed=0), target, seed=0)
        found = redirector.edit(redirector.invert(alone, seed=0), target, seed=0)
        _same(found, wanted, "pictures of one source, and of as many of it as targets")
        requests = bench.requests()
        sources, targets = requests.to("cpu")
        chosen = requests.of_requests(redirector.invert(sources, seed=0))
        made = redirector.edit(chosen, targets, seed=0)
    _same(made, _pictures(redirector, batch), "pictures of the sources that a state holds in rows")


def check_mirroring(bench: Bench) -> None:
    """What is trained with mirrored pairs gets pictures, labels and inputs mirrored together.

    That a network makes the mirrored picture of them is what it learns by it, and nothing that an
    untrained one could be asked for.
    """
    if not bench.config.get("objective", {}).get("flip"):
        raise NotApplicable("objective.flip: it is not trained with mirrored pairs")
    bench.pairs(flip=True)
    everyone = torch.ones(BATCH, dtype=torch.bool)
    plain, turned = bench.batch(), bench.batch(flip=everyone)
    asked = {"pair": torch.arange(BATCH)}
    for name, value in plain.items():
        column = name.partition("_")[2]
        if column in ("gaze", "head"):
            value = value * value.new_tensor((1.0, -1.0))
        elif value.ndim > 2:
            value = value.flip(-1)
        _same(turned[name], value, f"{name} of mirrored pairs", 1e-6)
    redirector = bench.woken()
    for phase in redirector.phases():
        loss = _loss(redirector, turned, phase)
        told = f"phase {phase.name}: loss of mirrored pairs is {loss.detach()}"
        _expect(bool(loss.isfinite()), told)
    made = [_pictures(redirector, one | asked) for one in (plain, turned)]
    changed = float((made[1] - made[0]).abs().max())
    _expect(changed > _CLOSE, "pictures of mirrored pairs are those of the pairs")


def check_angles(bench: Bench) -> None:
    """Pitch and yaw exchanged change the picture, of every direction that it edits."""
    redirector, batch = bench.woken(), bench.asked()
    pitch_and_yaw = [name for name, one in FACTORS.items() if one.parts == ("pitch", "yaw")]
    named = [name for name in pitch_and_yaw if name in bench.declaration.factors]
    if not named:
        raise NotApplicable("factors: it edits no direction")
    whole = _pictures(redirector, batch)
    for name in named:
        key = f"target_{name}"
        other = _pictures(redirector, {**batch, key: batch[key].flip(1)})
        changed = float((other - whole).abs().max())
        _expect(changed > 1e-4, f"{name}: exchanged pitch and yaw change no picture")


def check_unknown_inputs(bench: Bench) -> None:
    """Pictures without an input are made all the same, whatever stands in its place."""
    inputs = bench.declaration.making().inputs
    if not inputs:
        raise NotApplicable("inputs: it makes pictures of pictures and labels alone")
    redirector, batch = bench.woken(), bench.asked()
    other = dict(batch)
    for one in inputs:
        for side in ("source", *({"target"} & set(one.sides))):
            unknown = ~batch[f"{side}_{one.kind}_known"]
            for column in bench.inputs[one.kind].columns:
                other[f"{side}_{column}"] = batch[f"{side}_{column}"].clone()
                other[f"{side}_{column}"][unknown] += 1
    made = _pictures(redirector, batch)
    _finite(made)
    told = "pictures of rows that are not known, of zeros and of ones in their place"
    _same(_pictures(redirector, other), made, told)


def check_unlabelled(bench: Bench) -> None:
    """Labels of unlabelled targets decide no loss."""
    if not bench.declaration.unlabelled_targets:
        raise NotApplicable("unlabelled_targets: it learns from labelled pairs alone")
    labels = {"count": 12, "seed": 0, "targets": "any"}
    redirector = bench.woken(labels=labels)
    batch = bench.batch(labels=labels)
    unknown = ~batch["target_labelled"]
    _expect(bool(unknown.any()), "expected a target without labels in the batch, found none")
    other = dict(batch)
    for name in ("target_gaze", "target_head"):
        other[name] = torch.where(unknown[:, None], torch.ones_like(batch[name]), batch[name])
    for phase in redirector.phases():
        found = [_loss(redirector, one, phase).detach() for one in (batch, other)]
        _same(*found, f"phase {phase.name}: losses of unknown labels of 0 and of 1", 1e-6)


def check_unlabelled_set(bench: Bench) -> None:
    """Pictures of the unlabelled data set reach a loss."""
    if bench.unlabelled is None:
        raise NotApplicable("unlabelled: it learns from one data set")
    redirector, batch = bench.woken(), bench.batch()
    losses = []
    for changed in (batch, {**batch, "unlabelled": -batch["unlabelled"]}):
        losses.append([])
        for phase in redirector.phases():
            at = Progress(max(1, phase.every), phase.after, torch.Generator().manual_seed(0))
            losses[-1].append(float(redirector.losses(changed, phase.name, at)["loss"].detach()))
    _expect(losses[0] != losses[1], "other unlabelled pictures change no loss")


def check_guidance(bench: Bench) -> None:
    """One pass gives the pictures of every guidance weight."""
    if not bench.declaration.guidable:
        raise NotApplicable("guidable: it cannot be guided")
    redirector, batch = bench.woken(), bench.asked()
    whole = _pictures(redirector, batch)
    made = _pictures(redirector, batch, weights=[0.0, 1.0])
    _expect(made.shape == (2, *whole.shape), f"expected (2, B, 3, H, W), found {tuple(made.shape)}")
    _same(made[0], whole, "pictures of weight 0 among others, and alone")
    _expect(float((made[1] - made[0]).abs().max()) > 1e-4, "weights 0 and 1 make the same pictures")


def check_path(bench: Bench) -> None:
    """The way to the pictures ends in them and is at most 40 long."""
    redirector, batch = bench.woken(), bench.asked()
    source, target = divided(batch)
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        way = redirector.record_path(state, target, seed=0)
    _expect(1 <= len(way) <= 40, f"expected 1 to 40 frames, found {len(way)}")
    _same(way[-1], _pictures(redirector, batch), "the last frame, and the pictures")
    if bench.declaration.denoises:
        _expect(len(way) > 1, "expected estimates on the way, found the pictures alone")


def check_several_sources(bench: Bench) -> None:
    """With several pictures of a person it makes pictures that depend on their own rows alone."""
    if not bench.declaration.several_sources:
        raise NotApplicable("several_sources: it is shown one picture")
    several = {name: 2 for name in bench.sampling if name == "sources"}
    redirector = build_redirector(bench.config, {**bench.sampling, **several})
    _expect(redirector.sources > 1, f"sources: expected several, found {redirector.sources}")
    redirector.attach({role: load_network(folder) for role, folder in bench.networks.items()})
    redirector.network.load_state_dict(bench.woken().network.state_dict())
    requests = bench.requests(count=redirector.sources)
    source, target = requests.to("cpu")
    batch = {**selected(source, requests.source_of), **target}
    whole = _pictures(redirector.eval(), batch)
    _finite(whole)
    told = "pictures of rows [2, 0] alone and among others"
    _same(_pictures(redirector, _rows(batch, [2, 0])), whole[[2, 0]], told)


def check_turning(bench: Bench) -> None:
    """A factor turned by nothing leaves the reconstruction as it is, by an angle it does not."""
    redirector = bench.woken()
    if not isinstance(redirector, Perturbable):
        raise NotApplicable("Perturbable: it has no separate factors")
    source, _ = divided(bench.asked())
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        plain = redirector.reconstruct(state, seed=0)
        for factor, angles in redirector.angles().items():
            nothing = torch.zeros(len(plain), angles)
            _same(redirector.perturb(state, factor, nothing, seed=0), plain, f"{factor} unturned")
            turned = redirector.perturb(state, factor, nothing + 0.3, seed=0)
            _expect(float((turned - plain).abs().max()) > 1e-4, f"{factor}: turning has no effect")


def check_start(bench: Bench) -> None:
    """Weights to start from are taken whole or refused."""
    redirector, other = bench.built(seed=1), bench.woken(seed=2)
    _loads(bench, redirector, other, other.saved.state_dict(), redirector.load_start)


def check_published(bench: Bench) -> None:
    """Weights in the published layout are taken whole or refused."""
    redirector, other = bench.built(seed=1), bench.woken(seed=2)

    def load_reference(state: Mapping) -> None:
        redirector.load_reference(state, bench.config)

    _loads(bench, redirector, other, other.reference_state(), load_reference)


def _loads(bench, redirector, other, state: Mapping, load: Callable[[Mapping], None]) -> None:
    """Whole weights of another redirector make its pictures, others are refused."""
    state = _copied(state)
    _refuses(state, load, load.__name__)
    load(state)
    batch = bench.asked()
    told = "pictures of loaded weights, and of those that they are of"
    _same(_pictures(redirector.eval(), batch), _pictures(other, batch), told)


def _copied(state: Mapping) -> dict:
    return {k: _copied(v) if isinstance(v, Mapping) else v.clone() for k, v in state.items()}


def _leaves(state: dict) -> Iterator[tuple[dict, str]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        elif value.is_floating_point():
            yield state, key


def _refuses(state: dict, load: Callable[[dict], None], what: str) -> None:
    """A key missing, one too many or of another shape, the first and the last, each named."""
    for end in (0, -1):
        for fault in ("missing", "unexpected", "of another shape"):
            wrong = _copied(state)
            part, key = list(_leaves(wrong))[end]
            value = part[key]
            if fault == "missing":
                del part[key]
            elif fault == "unexpected":
                key = f"{key}_too_many"
                part[key] = value
            else:
                part[key] = torch.zeros(*value.shape, 2)
            try:
                load(wrong)
            except ValueError as error:
                _expect(key in str(error), f"{what}: {key} is {fault}: not named in: {error}")
            else:
                raise Failed(f"{what}: expected a refusal, {key} is {fault}")


CHECKS: dict[str, Callable[[Bench], None]] = {
    name.removeprefix("check_").replace("_", " "): function
    for name, function in globals().items()
    if name.startswith("check_") and function.__module__ == __name__
}
"""All checks by name, in the order in which they run."""


def run_checks(bench: Bench, names: Iterable[str] = tuple(CHECKS)) -> Iterator[Outcome]:
    """Run checks on a bench, by default all, one after the other."""
    for name in names:
        try:
            CHECKS[name](bench)
            yield Outcome(name, "passed")
        except NotApplicable as error:
            yield Outcome(name, "not applicable", str(error))
        except Failed as error:
            yield Outcome(name, "failed", str(error))
        except Exception as error:  # whatever a method raises
            told = (str(error).strip() or "no message").splitlines()[0]
            yield Outcome(name, "failed", f"{type(error).__name__}: {told}")


def table(outcome: Outcome, width: int = 100) -> str:
    """A row of the table of outcomes; a long reason takes several lines."""
    start = f"{outcome.check:{max(map(len, CHECKS)) + 2}}{outcome.state:16}"
    rest = {"initial_indent": start, "subsequent_indent": " " * len(start)}
    return textwrap.fill(outcome.reason, width, **rest) if outcome.reason else start.rstrip()
