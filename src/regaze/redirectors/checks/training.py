"""Checks of what a method declares, and of its training: it learns, is saved and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import pandas as pd
import torch
from safetensors.torch import load_file

import regaze.redirectors
from regaze.methods import methods
from regaze.redirectors.base import (
    Redirector,
    build_redirector,
)
from regaze.redirectors.bench import STEPS, Bench, Failed
from regaze.redirectors.checks.common import (
    expect,
    pictures_of,
    same,
)
from regaze.redirectors.declaration import declared_by
from regaze.redirectors.inputs import check_names
from regaze.redirectors.networks import load_network, load_redirector
from regaze.training.phases import Progress


@cache
def _needs_torch(module: str, path: tuple[str, ...]) -> bool:
    program = (
        "import importlib, sys, regaze.redirectors as r; r.__path__ = sys.argv[2:]; "
        "importlib.import_module(sys.argv[1]); sys.exit(3 * ('torch' in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    line = [sys.executable, "-c", program, module, *path]
    return subprocess.run(line, env=environment, capture_output=True).returncode == 3


def check_declaration(bench: Bench) -> None:
    """It is made without torch, and of what a trained model's record keeps; its names are known."""
    own, config = bench.declaration, bench.config
    module = f"{methods()[config['class']]}.settings"
    expect(
        not _needs_torch(module, tuple(regaze.redirectors.__path__)),
        f"{module} imports torch, which the Snakefile would wait for at every start",
    )
    kept = json.loads(json.dumps(config))
    again = declared_by(kept)
    expect(
        json.dumps(_plain(again)) == json.dumps(_plain(own)),
        "it says something else of the options that model.json keeps, in which tuples are lists",
    )
    expect(bool(own.condition.strip()), "condition: expected words for the report, found none")
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
    expect(averaged <= saved, "averaged: expected a part of what is saved")
    expect(saved <= network, "saved: expected a part of network")
    phases = redirector.phases()
    names = [phase.name for phase in phases]
    expect(len(set(names)) == len(names) > 0, f"phases: expected different names, found {names}")
    for phase in phases:
        own = list(phase.parameters)
        expect(bool(own), f"phase {phase.name}: expected parameters, found none")
        expect(set(own) <= network, f"phase {phase.name}: trains what is no part of network")
    again = build_redirector(json.loads(json.dumps(bench.config)), bench.sampling)
    wanted, found = (set(one.saved.state_dict()) for one in (redirector, again))
    expect(wanted == found, f"saved: other weights after attach: {sorted(wanted ^ found)[:4]}")


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
            expect(value.ndim == 0, f"phase {phase.name}: {name}: expected a scalar")
            expect(bool(value.isfinite()), f"phase {phase.name}: {name} is {float(value.detach())}")
        found["loss"].backward()
        count = sum(p.grad is not None and bool(p.grad.any()) for p in phase.parameters)
        expect(count > 0, f"phase {phase.name}: its loss reaches none of its parameters")
    for role, network in frozen.items():
        moved = [name for name, one in network.named_parameters() if one.grad is not None]
        expect(not moved, f"{role}: expected frozen, found gradients of {', '.join(moved[:3])}")


def check_validation(bench: Bench) -> None:
    """The loss that checkpoints are chosen by is a number, without gradients, and repeatable."""
    redirector, batch = bench.built().eval(), bench.batch(part="val")
    found = []
    for _ in range(2):
        at = Progress(0, 0, torch.Generator().manual_seed(0))
        with torch.no_grad():
            value = redirector.validation_loss(batch, at)
        expect(value.ndim == 0 and bool(value.isfinite()), f"expected a number, found {value}")
        found.append(float(value))
    expect(found[0] == found[1], f"expected the same number again, found {found[0]}, {found[1]}")


def check_reloading(bench: Bench) -> None:
    """Trained for some steps it has changed; from disk it makes the pictures of before."""
    folder, trained = bench.unbroken
    start = {k: v.clone() for k, v in bench.built().saved.state_dict().items()}
    weights = load_file(folder / "model.safetensors")
    expect(
        any(not torch.equal(weights[key], value) for key, value in start.items()),
        f"no weight has changed in {STEPS} steps",
    )
    batch = bench.asked()
    loaded, _ = load_redirector(folder, bench.sampling)
    same(pictures_of(loaded, batch), pictures_of(trained, batch), "pictures of the reloaded model")


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
    expect(not different, f"other weights after a resume: {', '.join(different[:4])}")
    curves = [
        pd.read_csv(folder / "curve.csv").drop(columns="seconds") for folder in (whole, again)
    ]
    expect(curves[0].equals(curves[1]), "another curve after a resume")


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
