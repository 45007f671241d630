"""Trained estimators on disk: the project's model folders and the published checkpoints."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.build import build_estimator
from regaze.estimators.xgaze import load_xgaze, read_state
from regaze.provenance import fingerprint
from regaze.weights import load_strictly, read_model, state_dict_of, torch_content

_STEP = re.compile(r"at_step_(\d+)\.pth\.tar$")
MOST_BYTES = 8 << 30
"""Size of the members of a tar archive above which it is not read."""
_NESTED = ("model_state", "state_dict")
_TRAINER = {"model_state", "optim_state", "epoch"}
"""Keys of a checkpoint by ``xucong-zhang/ETH-XGaze``'s ``trainer.py``."""


def _load(network: GazeHeadEstimator, state: Mapping[str, Tensor], source: object) -> None:
    load_strictly(network, state, f"{source}: not the weights of {network.arch}/{network.preset}")


def load_estimator(folder: str | os.PathLike) -> GazeHeadEstimator:
    """Return a trained estimator of a model folder, in evaluation mode, without gradients.

    The folder holds ``model.safetensors`` and ``model.json`` with ``kind`` "estimator" and
    ``config`` with at least ``arch``, ``preset``, ``size_px`` and ``preprocess``. The network gets
    two more attributes: ``record`` (the content of ``model.json``) and ``fingerprint`` (16 hex
    digits of the weights file).

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: another kind of model, a missing entry, or weights that do not fit.
    """
    record, weights, path = read_model(folder, "estimator")
    config = record.get("config", {})
    for key in ("arch", "preset", "size_px", "preprocess"):
        if key not in config:
            told = f"config.{key}: expected a value, found none"
            raise ValueError(f"{path.with_name('model.json')}: {told}")
    network = build_estimator(
        config["arch"], config["preset"], config["size_px"], config["preprocess"]
    )
    _load(network, weights, path)
    network.record, network.fingerprint = record, fingerprint(path)
    return network.eval().requires_grad_(False)


def _highest_step(names: list[str], source: Path) -> str:
    steps = {int(match[1]): name for name in names if (match := _STEP.search(name))}
    if not steps:
        raise ValueError(
            f"{source}: expected a file named at_step_<number>.pth.tar, found {sorted(names)[:8]}"
        )
    return steps[max(steps)]


def _listed(path: Path, archive: tarfile.TarFile) -> list[str]:
    """Return the names of an archive's files; members beyond :data:`MOST_BYTES` are not read."""
    names, claimed = [], 0
    for member in archive:
        # Checked before the next header is sought, for which a compressed archive is inflated.
        claimed += member.size
        if claimed > MOST_BYTES or member.issparse():
            raise ValueError(
                f"{path}: {member.name[:80]!r}: expected checkpoints of at most {MOST_BYTES} bytes "
                f"together, found {'a sparse file' if member.issparse() else claimed}"
            )
        if member.isfile():
            names.append(member.name)
    return names


def _torch_content(path: Path) -> Any:
    """Read a torch file, or the newest checkpoint inside a true tar archive or a folder."""
    if path.is_dir():
        home = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        path = home / _highest_step([entry.name for entry in home.iterdir()], home)
    stream: Path | io.BytesIO = path
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            names = _listed(path, archive)
            # Nothing is extracted, but such an archive was not made by saving checkpoints.
            astray = [name for name in names if name.startswith("/") or ".." in name.split("/")]
            if astray:
                raise ValueError(f"{path}: expected relative names inside, found {astray[0]!r}")
            member = archive.extractfile(_highest_step(names, path))
            if member is None:
                raise ValueError(f"{path}: the newest checkpoint in the archive is not a file")
            stream = io.BytesIO(member.read())
    return torch_content(stream, where=path)


def load_reference(path: str | os.PathLike, arch: str) -> GazeHeadEstimator:
    """Return a published estimator of ST-ED with the weights of ``path``, in evaluation mode.

    ``path`` is a checkpoint (``at_step_*.pth.tar``, a torch file in the zip or the legacy format
    in spite of its name), a true tar archive or a folder of such checkpoints, of which the highest
    step is taken. The state dict may be bare or lie below ``model_state`` or ``state_dict``; a
    leading ``module.`` of every key is removed. Only plain tensors are unpickled.

    Raises:
        FileNotFoundError: no such file; upstream would go on silently with ImageNet weights.
        ValueError: not a checkpoint, or missing and unexpected keys, which are listed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected the weights of the {arch} estimator, found none")
    state = _torch_content(path)
    if isinstance(state, Mapping) and set(state) >= _TRAINER:
        raise ValueError(
            f"{path}: expected the weights of ST-ED's {arch} estimator, found a checkpoint of "
            "ETH-XGaze's training code, which GazeNeRF's estimators are too: the same layers, but "
            "for 224 px and with ImageNet's mean and deviation, which preset xgaze is"
        )
    for key in _NESTED:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    state = state_dict_of(state, path)
    network = build_estimator(arch, "reference")
    _load(network, state, str(path))
    network.record = {"name": path.name, "kind": "estimator", "config": network.config()}
    network.fingerprint = fingerprint(path) if path.is_file() else ""
    return network.eval().requires_grad_(False)


def load_xgaze_estimator(path: str | os.PathLike, arch: str) -> GazeHeadEstimator:
    """A published estimator of gaze and head with the weights of a checkpoint, in evaluation mode.

    Args:
        path: a checkpoint in a layout of :func:`regaze.estimators.xgaze.load_xgaze`; the keys of
            the VGG-16 are ST-ED's.
        arch: ``resnet`` or ``vgg``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no torch file of weights, those of another network, or of one that answers the
            gaze alone.
    """
    path = Path(path)
    if arch == "resnet":
        made = load_xgaze(path)
        depth, answers = 50 if len(made.resnet.layer1) == 3 else 18, made.resnet.fc.out_features
        network = build_estimator(arch, "xgaze")
        if made.resnet.fc.weight.shape != network.network.resnet.fc.weight.shape:
            raise ValueError(
                f"{path}: expected a ResNet-50 that answers gaze and head, found a ResNet-{depth} "
                f"with {answers} outputs; `regaze photo-check --judge` takes such"
            )
        network.network = made
    else:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the weights of a VGG-16, found no such file")
        network = build_estimator(arch, "xgaze")
        load_strictly(network, read_state(path), f"{path}: not the weights of GazeNeRF's VGG-16")
    network.record = {"name": path.name, "kind": "estimator", "config": network.config()}
    network.fingerprint = fingerprint(path)
    return network.eval().requires_grad_(False)
