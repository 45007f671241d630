"""Entries of the configuration whose weights are published: they are checked, not trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from regaze.estimators.evaluate import held_out_error
from regaze.estimators.store import load_reference
from regaze.faces import FacesReader
from regaze.provenance import fingerprint
from regaze.redirectors.base import build_redirector

START = ({"step": 0, "images": 0, "lr": 0.0, "seconds": 0.0},)
"""The curve of a model that is not trained here."""


def published_estimator(
    config: Mapping, faces: Sequence[str], persons: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of ``config["checkpoint"]``, and what is told about them in ``model.json``.

    Args:
        config: a resolved entry of ``estimators:`` with ``checkpoint``.
        faces: shards to measure the held-out error on, where they have gaze labels.
        persons: whose faces are taken for it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not the weights of this network, or no checkpoint at all.
    """
    network = load_reference(config["checkpoint"], config["arch"])
    about: dict[str, Any] = _about(config["checkpoint"])
    reader = FacesReader(faces)
    rows = reader.rows(persons)
    if reader.gaze_known and len(rows):
        about["held_out"] = {"list": "test", **held_out_error(network, reader, rows)}
    return _plain(network.state_dict()), about


def published_redirector(config: Mapping) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of ``config["checkpoint"]`` in the layout of the method, and what is told of them.

    Args:
        config: a resolved entry of ``models:`` with ``checkpoint``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not the weights of these networks.
    """
    redirector = build_redirector(config)
    path = config["checkpoint"]
    try:
        redirector.load_reference(redirector.read_reference(path), config)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    about = _about(path) | {"told": redirector.needs.target}
    return _plain(redirector.network.state_dict()), about


def _about(path: str) -> dict[str, Any]:
    about = {"source": "published", "checkpoint": Path(path).name}
    if Path(path).is_file():
        about["checkpoint_fingerprint"] = fingerprint(path)
    return about


def _plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu() for key, value in weights.items()}
