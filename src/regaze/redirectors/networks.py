"""Opens the trained networks that methods use, and trained methods, whatever they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from regaze.estimators.store import load_estimator
from regaze.provenance import fingerprint
from regaze.redirectors.base import Redirector, build_redirector
from regaze.weights import load_strictly, models_folder, read_model, read_record


def load_network(folder: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The trained network of a model folder, frozen, in evaluation mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder holds nothing that methods can use.
    """
    kind = read_record(Path(folder) / "model.json").get("kind")
    if kind not in ("estimator", "redirector"):
        raise ValueError(
            f"{folder}/model.json: kind: expected estimator or redirector, found {kind!r}"
        )
    if kind == "estimator":
        found: nn.Module = load_estimator(folder)
    else:
        found = load_redirector(folder, device=device)[0]
    return found.to(device).requires_grad_(False)


def load_redirector(
    folder: str | Path, sampling: Mapping | None = None, device: str | torch.device = "cpu"
) -> tuple[Redirector, dict]:
    """Load a trained redirector, with the networks that it needs to make pictures.

    Args:
        folder: model folder with ``model.safetensors`` and ``model.json``; networks lie beside it.
        sampling: options of sampling, by default the method's.
        device: where it and these networks are to work.

    Returns:
        ``(redirector, record)`` in evaluation mode; ``record`` is ``model.json``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder holds no redirector, weights that do not fit its configuration, or
            a network beside it is not the one that it was trained with.
    """
    record, weights, path = read_model(folder, "redirector")
    redirector = build_redirector(record["config"], sampling)
    redirector.attach(_always(path.parent, record, device))
    load_strictly(redirector.saved, weights, path)
    return redirector.to(device).eval(), record


def _always(folder: Path, record: Mapping, device) -> dict[str, nn.Module]:
    """The networks that a trained model makes its pictures with, by role."""
    found = {}
    for role, about in record.get("networks", {}).items():
        if not about["always"]:
            continue
        beside = models_folder(folder) / about["entry"]
        now = fingerprint(beside / "model.safetensors")
        if now != about["fingerprint"]:
            raise ValueError(
                f"{beside}: expected the {role} that {record['name']!r} was trained with "
                f"({about['fingerprint']}), found {now}; train {record['name']!r} again"
            )
        found[role] = load_network(beside, device)
    return found
