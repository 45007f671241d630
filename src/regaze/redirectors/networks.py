"""Opens the trained networks that methods use, whatever they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from regaze.damage import read_record


def load_network(folder: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The trained network of a model folder, frozen, in evaluation mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder holds nothing that methods can use.
    """
    kind = read_record(Path(folder) / "model.json").get("kind")
    if kind == "estimator":
        from regaze.estimators.store import load_estimator

        found = load_estimator(folder)
    elif kind == "redirector":
        from regaze.redirectors.sample import load_redirector

        found = load_redirector(folder, device=device)[0]
    else:
        raise ValueError(
            f"{folder}/model.json: kind: expected estimator or redirector, found {kind!r}"
        )
    return found.to(device).requires_grad_(False)
