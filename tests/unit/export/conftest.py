"""Small redirectors of drawn weights, each in a folder as training leaves it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from regaze.methods import method_module
from regaze.redirectors.base import build_redirector

TINY = {"preset": "tiny"}
FEW = {"parameterization": "residual_x0", "base": "source"}
ENTRIES = {
    "regression": {
        "class": "xunet",
        **TINY,
        "size_px": 32,
        "objective": {"parameterization": "regression", "base": "warp"},
    },
    "single": {
        "class": "xunet",
        **TINY,
        "size_px": 32,
        "network": {"frames": 1},
        "objective": {"parameterization": "regression", "base": "warp"},
    },
    "steps": {"class": "xunet", **TINY, "size_px": 32, "objective": FEW},
    "student": {
        "class": "xunet",
        **TINY,
        "size_px": 32,
        "objective": FEW,
        "distil": {"teacher": "steps", "steps": 2, "teacher_steps": 4, "start": "random"},
    },
    "sted": {"class": "sted", **TINY, "size_px": 32},
    "redirtrans": {"class": "redirtrans", **TINY, "size_px": 32},
    "photo": {"class": "eyewarp", **TINY, "size_px": 32, "region": (0, 4, 32, 20)},
}


def write_model(folder, name, entry):
    """Write a model of drawn weights, none of them 0, and return its folder."""
    config = method_module(entry["class"], "settings").ModelSettings(**entry).resolve()
    torch.manual_seed(0)
    redirector = build_redirector(config)
    for weights in redirector.saved.parameters():
        if not weights.detach().any():
            torch.nn.init.normal_(weights, std=0.05)
    record = {"kind": "redirector", "name": name, "config": config, "inputs": {}, "networks": {}}
    place = folder / name
    place.mkdir(parents=True)
    save_file(dict(redirector.saved.state_dict()), str(place / "model.safetensors"))
    (place / "model.json").write_text(json.dumps(record))
    return place


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A function that returns the folder of a model of :data:`ENTRIES`, or of an entry."""
    # In a folder of its own: faces are looked for beside models, where other tests may leave some.
    folder, made = tmp_path_factory.mktemp("results") / "models", {}

    def of(name, entry=None):
        if name not in made:
            made[name] = write_model(folder, name, entry or ENTRIES[name])
        return made[name]

    return of
