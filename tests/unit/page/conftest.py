"""A portrait with red irises, and a model that moves eyes by geometry alone."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from skimage import data

from regaze.estimators.build import build_estimator
from regaze.landmarks.detectors import configured_detector
from regaze.redirectors.base import build_redirector
from regaze.redirectors.eyewarp.settings import ModelSettings


@pytest.fixture(scope="session")
def portrait(tmp_path_factory):
    """A public portrait whose irises are discs of red."""
    picture = data.astronaut()
    marks = configured_detector(None, None, "cpu").all_faces(picture)[0]
    image = Image.fromarray(picture)
    for eye in (slice(36, 42), slice(42, 48)):
        x, y = np.asarray(marks)[eye].mean(0)
        ImageDraw.Draw(image).ellipse((x - 3, y - 3, x + 3, y + 3), fill=(240, 0, 0))
    path = tmp_path_factory.mktemp("photos") / "portrait.png"
    image.save(path)
    return path


def _save(folder, network, kind, config):
    folder.mkdir(parents=True)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    record = {"name": folder.name, "kind": kind, "config": config, "inputs": {}, "networks": {}}
    (folder / "model.json").write_text(json.dumps(record))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folder of a redirector ``photo`` whose every pixel goes along with the irises, four times as
    far, and an estimator ``judge``."""
    # Faces are looked for beside it.
    folder = tmp_path_factory.mktemp("results") / "models"
    torch.manual_seed(0)
    entry = {"class": "eyewarp", "preset": "tiny", "size_px": 64, "region": (0, 8, 64, 40)}
    config = ModelSettings(**entry, objective={"travel": 0.27}).resolve()
    made = build_redirector(config)
    with torch.no_grad():
        made.network.last.weight.zero_()
        fold = made.network.last.bias.unflatten(0, (8, -1))
        fold.zero_()
        fold[2], fold[6:] = 10.0, 1.0
    _save(folder / "photo", made.network, "redirector", config)
    judge = build_estimator("resnet", "tiny", 32, "none")
    _save(folder / "judge", judge, "estimator", judge.config())
    return folder
