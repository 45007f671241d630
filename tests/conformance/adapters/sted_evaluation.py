"""ST-ED's evaluation metrics (zhengyuf/STED-gaze ``models/st_ed.py``), with given turns."""

from __future__ import annotations

import re

import numpy as np
import torch
from kit import adapter, assert_close, fill_input, fill_state

from regaze.angles import angular_error
from regaze.estimators.build import build_estimator
from regaze.estimators.evaluate import read_images
from regaze.images import to_uint8
from regaze.metrics.disentanglement import changes, turned_factors
from regaze.metrics.redirection import Reading
from regaze.redirectors.base import build_redirector
from regaze.redirectors.sted.settings import ModelSettings
from regaze.weights import load_strictly

PICTURES = 5e-4  # absolute; spec/sted.md section 12
VALUES, DISENTANGLEMENT = 1e-4, 1e-2  # relative; the latter rest on small angles
DEGREES = 1e-3


def _redirector(case, states, size):
    entry = {"class": "sted", "preset": "reference", "size_px": size, "network": case.config}
    redirector = build_redirector(ModelSettings(**entry).resolve()).eval()
    for name in ("encoder", "decoder"):
        load_strictly(getattr(redirector.net, name), states[name])
    return redirector


def _turns(case, factors, count):
    note = case.manifest["inputs"]["perturbations"]["note"]
    width = float(re.search(r"\(u-0\.5\)\*([\d.]+)\*pi", note)[1]) * np.pi
    return {
        factor: torch.from_numpy(
            (fill_input(f"perturbation{place}", (count, dof), case.seed, 0, 1) - 0.5)
            * np.float32(width)
        )
        for place, (factor, dof) in enumerate(factors.items())
    }


def _given(case):
    """Inputs; stored arrays of the source labels' names are the metrics of those names."""
    table, given = case.manifest["inputs"], {}
    for name, entry in table.items():
        if name == "perturbations":
            continue
        if "fill" in entry:
            given[name] = case.inputs[name]
        else:
            shape, low, high = re.search(
                r"\(([\d,]+)\),seed,([-.\d]+),([-.\d]+)", entry["note"]
            ).groups()
            shape = tuple(map(int, shape.split(",")))
            given[name] = fill_input(name, shape, case.seed, float(low), float(high))
    return {name: torch.from_numpy(value) for name, value in given.items()}


@adapter("sted/evaluation*")
@torch.no_grad()
def evaluation(case):
    states = {
        name: fill_state(table, case.seed) for name, table in case.manifest["state_groups"].items()
    }
    given, golden = _given(case), case.golden
    count, size = len(given["image_a"]), given["image_a"].shape[-1]
    redirector = _redirector(case, states, size)
    # Pictures reach the network and the estimator as they are given here.
    redirector.config = {**redirector.config, "preprocess": "none"}
    estimator = build_estimator("resnet", "reference", size_px=size, preprocess="none").eval()
    load_strictly(estimator, states["GazeHeadNet_eval"])

    own, _ = redirector.encode(given["image_a"])
    state = redirector.invert({"source": given["image_a"]}, seed=0)
    made = redirector._moved(state, {name: given[f"{name}_b"] for name in ("gaze", "head")})
    everything = redirector.net.transfer(given["image_a"], given["image_b"])
    read = read_images(estimator, made)
    found = {
        "l1": float((given["image_b"] - made).abs().mean()),
        "l1_all": float((given["image_b"] - everything).abs().mean()),
    }
    for name, columns in (("gaze", slice(0, 2)), ("head", slice(2, 4))):
        place = redirector.net.factors.angles_of(name)
        apart = angular_error(given[f"{name}_a"].double(), own[:, place].double())
        found[f"{name}_a"] = float(apart.mean())
        wanted = given[f"{name}_b"].double().numpy()
        found[f"{name}_redirection"] = angular_error(read[:, columns], wanted).mean()
    for name, value in found.items():
        atol = 1e-5 if name.startswith("l1") else DEGREES
        assert_close(value, golden[name], atol, VALUES, name=name)

    moved, reference = {}, None
    turns = _turns(case, redirector.angles(), count)
    for factor, images in turned_factors(redirector, state, turns, 0):
        reading = Reading(read_images(estimator, images), None, to_uint8(images))
        reference = reading if reference is None else reference
        moved[factor] = [part.mean() for part in changes(reference, reading).values()]
    others = [moved[name] for name in redirector.angles() if name not in ("gaze", "head")]
    induced = {
        "gaze_to_head": moved["gaze"][1],
        "head_to_gaze": moved["head"][0],
        "gaze_disentangle": np.mean([gaze for gaze, _ in others]) if others else None,
        "head_disentangle": np.mean([head for _, head in others]) if others else None,
    }
    for name, value in induced.items():
        if name in golden:
            assert_close(value, golden[name], rtol=DISENTANGLEMENT, name=name)

    for name, images in (("image_b_hat", made), ("image_b_hat_all", everything)):
        for key in golden:
            if match := re.fullmatch(rf"{name}_s(\d+)", key):
                step = int(match[1])
                assert_close(images[..., ::step, ::step], golden[key], PICTURES, name=key)
