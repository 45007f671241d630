"""Checks of what a method claims to do besides; they apply only where it does."""

from __future__ import annotations

import torch

from regaze.redirectors.base import (
    Perturbable,
    build_redirector,
    divided,
    selected,
)
from regaze.redirectors.bench import Bench
from regaze.redirectors.checks.common import (
    NotApplicable,
    expect,
    finite,
    loss_of,
    pictures_of,
    rows_of,
    same,
)
from regaze.redirectors.networks import load_network
from regaze.training.phases import Progress


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
    made = pictures_of(redirector, batch)
    finite(made)
    told = "pictures of rows that are not known, of zeros and of ones in their place"
    same(pictures_of(redirector, other), made, told)


def check_unlabelled(bench: Bench) -> None:
    """Labels of unlabelled targets decide no loss."""
    if not bench.declaration.unlabelled_targets:
        raise NotApplicable("unlabelled_targets: it learns from labelled pairs alone")
    labels = {"count": 12, "seed": 0, "targets": "any"}
    redirector = bench.woken(labels=labels)
    batch = bench.batch(labels=labels)
    unknown = ~batch["target_labelled"]
    expect(bool(unknown.any()), "expected a target without labels in the batch, found none")
    other = dict(batch)
    for name in ("target_gaze", "target_head"):
        other[name] = torch.where(unknown[:, None], torch.ones_like(batch[name]), batch[name])
    for phase in redirector.phases():
        found = [loss_of(redirector, one, phase).detach() for one in (batch, other)]
        same(*found, f"phase {phase.name}: losses of unknown labels of 0 and of 1", 1e-6)


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
    expect(losses[0] != losses[1], "other unlabelled pictures change no loss")


def check_guidance(bench: Bench) -> None:
    """One pass gives the pictures of every guidance weight."""
    if not bench.declaration.guidable:
        raise NotApplicable("guidable: it cannot be guided")
    redirector, batch = bench.woken(), bench.asked()
    whole = pictures_of(redirector, batch)
    made = pictures_of(redirector, batch, weights=[0.0, 1.0])
    expect(made.shape == (2, *whole.shape), f"expected (2, B, 3, H, W), found {tuple(made.shape)}")
    same(made[0], whole, "pictures of weight 0 among others, and alone")
    expect(float((made[1] - made[0]).abs().max()) > 1e-4, "weights 0 and 1 make the same pictures")


def check_path(bench: Bench) -> None:
    """The way to the pictures ends in them and is at most 40 long."""
    redirector, batch = bench.woken(), bench.asked()
    source, target = divided(batch)
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        way = redirector.record_path(state, target, seed=0)
    expect(1 <= len(way) <= 40, f"expected 1 to 40 frames, found {len(way)}")
    same(way[-1], pictures_of(redirector, batch), "the last frame, and the pictures")
    if bench.declaration.denoises:
        expect(len(way) > 1, "expected estimates on the way, found the pictures alone")


def check_several_sources(bench: Bench) -> None:
    """With several pictures of a person it makes pictures that depend on their own rows alone."""
    if not bench.declaration.several_sources:
        raise NotApplicable("several_sources: it is shown one picture")
    several = {name: 2 for name in bench.sampling if name == "sources"}
    redirector = build_redirector(bench.config, {**bench.sampling, **several})
    expect(redirector.sources > 1, f"sources: expected several, found {redirector.sources}")
    redirector.attach({role: load_network(folder) for role, folder in bench.networks.items()})
    redirector.network.load_state_dict(bench.woken().network.state_dict())
    requests = bench.requests(count=redirector.sources)
    source, target = requests.to("cpu")
    batch = {**selected(source, requests.source_of), **target}
    whole = pictures_of(redirector.eval(), batch)
    finite(whole)
    told = "pictures of rows [2, 0] alone and among others"
    same(pictures_of(redirector, rows_of(batch, [2, 0])), whole[[2, 0]], told)


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
            same(redirector.perturb(state, factor, nothing, seed=0), plain, f"{factor} unturned")
            turned = redirector.perturb(state, factor, nothing + 0.3, seed=0)
            expect(float((turned - plain).abs().max()) > 1e-4, f"{factor}: turning has no effect")
