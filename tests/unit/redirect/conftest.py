"""A photo of a made-up face whose landmarks a head pose explains, and an untrained model."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regaze.estimators.build import build_estimator
from regaze.normalise.camera import pad_distortion, project
from regaze.normalise.face_model import face_model
from regaze.redirectors.base import build_redirector
from regaze.redirectors.eyewarp.settings import ModelSettings as EyeSettings
from regaze.redirectors.xunet.settings import ModelSettings

SIZE = (320, 240)
LENS = [-0.12, 0.03, 0.001, -0.002]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _textured(seed=0, size=SIZE, blur=2.0):
    noise = np.random.default_rng(seed).normal(size=(size[1], size[0], 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return np.clip(128 + smooth / smooth.std() * 30, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def textured():
    """A function of seed, size and blur that returns a smooth random photo."""
    return _textured


def posed_landmarks(pose, camera, lens):
    """68 landmarks of which those of the face model are exact, the others on an oval around."""
    model = face_model("sfm14")
    turn = cv2.Rodrigues(np.array(pose[:3], float))[0]
    seen = project(
        (model.points @ turn.T + pose[3:])[None], np.array([camera]), pad_distortion([lens])
    )[0]
    count = len(model.landmark_numbers)
    middle, reach = seen[:count].mean(0), np.ptp(seen[:count], axis=0)
    angle = np.linspace(0, np.pi, 68)
    marks = middle + np.stack([np.cos(angle) * reach[0] * 0.7, np.sin(angle) * reach[1]], -1)
    marks[[n - 1 for n in model.landmark_numbers]] = seen[:count]
    return marks


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """Folder with photo.png, its landmarks, camera and pose."""
    folder = tmp_path_factory.mktemp("scene")
    camera, pose = [400.0, 402.0, 161.0, 118.0], [0.1, -0.15, 0.02, 12.0, -8.0, 520.0]
    photo = _textured()
    cv2.imwrite(str(folder / "photo.png"), photo[..., ::-1])
    marks = posed_landmarks(pose, camera, LENS)
    np.savez(folder / "photo.npz", landmarks=marks)
    return SimpleNamespace(
        folder=folder,
        path=folder / "photo.png",
        photo=photo,
        marks=folder / "photo.npz",
        points=marks,
        camera=camera,
        lens=LENS,
        pose=pose,
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folder of untrained redirectors, ``small`` and ``eyes``, and an estimator ``judge``."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = ModelSettings(**{"class": "xunet", "preset": "tiny", "size_px": 32}).resolve()
    sampling = {
        "sampler": "dpmpp_2m", "steps": 1, "sigma_min": 0.05, "sigma_max": 20.0, "guidance": 0.0,
    }  # fmt: skip
    made = build_redirector(config, sampling)
    _save(folder / "small", made.network, "redirector", config)
    eyes = {"class": "eyewarp", "preset": "tiny", "size_px": 32, "region": (0, 4, 32, 20)}
    config = EyeSettings(**eyes).resolve()
    _save(folder / "eyes", build_redirector(config).network, "redirector", config)
    judge = build_estimator("resnet", "tiny", 32, "none")
    _save(folder / "judge", judge, "estimator", judge.config())
    return folder


def _save(folder, network, kind, config):
    folder.mkdir()
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    record = {"name": folder.name, "kind": kind, "config": config}
    (folder / "model.json").write_text(json.dumps(record))
