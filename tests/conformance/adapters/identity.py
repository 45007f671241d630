"""Identity networks: IR-SE50 and iResNet-50 of redirtrans, MobileFaceNet of gazenerf."""

from __future__ import annotations

import ast
import re

import numpy as np
import torch
from kit import adapter, assert_close

from regaze.identity.iresnet import IResNet
from regaze.identity.irse import IrSe, loss_crop
from regaze.identity.mobilefacenet import MobileFaceNet


def _loaded(network, case):
    network.load_state_dict(case.state)
    return network.eval()


def _relative(found, case, name: str) -> None:
    """Tolerances of these cases are relative to the output's own rms."""
    wanted = case.golden[name]
    rms = float(np.sqrt((wanted.astype(np.float64) ** 2).mean()))
    told = case.manifest["tolerance"]
    assert_close(found, wanted, atol=told["atol"] * rms + told["rtol"] * rms, name=name)


@adapter("redirtrans/arcface_irse50*")
def arcface_irse50(case):
    config = case.config
    squeeze = config["mode"] == "ir_se"
    network = IrSe(
        config["input_size"],
        config["num_layers"],
        squeeze,
        config["drop_ratio"],
        config["affine"],
    )
    words = config["preprocess"]
    crop = tuple(map(int, re.search(r"rows (\d+):(\d+), cols (\d+):(\d+)", words).groups()))
    images = loss_crop(torch.from_numpy(case.inputs["image"]), config["input_size"], crop)
    with torch.no_grad():
        _relative(_loaded(network, case)(images), case, "feature")


@adapter("redirtrans/iresnet50*")
def iresnet50(case):
    config = case.config
    network = IResNet(tuple(config["layers"]), config["num_features"], config["dropout"])
    network = _loaded(network, case)
    images = torch.from_numpy(case.inputs["image"])
    with torch.no_grad():
        _relative(network(images), case, "feature")
        if "layer1" in case.golden:
            first = network.layer1(network.stem(images))
            steps = re.findall(r"::(\d+)", case.manifest["outputs"]["layer1"])
            rows = tuple(slice(None, None, ast.literal_eval(step)) for step in steps)
            _relative(first[(slice(None), *rows)], case, "layer1")


@adapter("gazenerf/mobilefacenet*")
def mobilefacenet(case):
    network = _loaded(MobileFaceNet(**case.config), case)
    with torch.no_grad():
        found = network(torch.from_numpy(case.inputs["img"]))
    assert_close(found, case.golden["embedding"], 1e-4, name="embedding")
    if "similarity" in case.golden:
        assert_close(found[0] @ found[1], case.golden["similarity"], 1e-4, name="similarity")
