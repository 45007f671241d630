"""Opens the trained networks that methods use, and trained methods, whatever they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from regaze.estimators.store import load_estimator
from regaze.provenance import fingerprint
from regaze.redirectors.base import Redirector, build_redirector
from regaze.redirectors.declaration import Declaration
from regaze.redirectors.inputs import NetworkFile
from regaze.weights import load_strictly, models_folder, read_model, read_record

HEAD = Path("face3d/head.npz")
"""The head model of encoders below the folder of results, beside the folder of models."""


def network_file(place: str | Path | NetworkFile) -> NetworkFile:
    """Where a network lies, of a model folder too."""
    return place if isinstance(place, NetworkFile) else NetworkFile(str(place))


def load_network(place: str | Path | NetworkFile, device: str | torch.device = "cpu") -> nn.Module:
    """A network for methods, frozen, in evaluation mode.

    Args:
        place: a model folder, or where else the network lies.
        device: where it works.

    Returns:
        An estimator, a redirector, a face recogniser, a 3-D face encoder, or what
        :func:`regaze.perceptual.load_asset` makes of an asset.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it holds nothing that methods can use.
    """
    at = network_file(place)
    if "asset" in at.options:
        from regaze.perceptual import load_asset

        return load_asset(at.options["asset"], at.path, at.options.get("sha256")).to(device)
    kind = "encoder" if at.options else read_record(Path(at.path, "model.json")).get("kind")
    if kind == "estimator":
        found: nn.Module = load_estimator(at.path)
    elif kind == "redirector":
        found = load_redirector(at.path, device=device)[0]
    elif kind == "identity":
        from regaze.identity.store import load_recogniser

        found = load_recogniser(at.path)
    elif kind == "encoder":
        from regaze.face3d.encode import open_encoder

        head = at.head or models_folder(at.path).parent / HEAD
        files = at.options or {"folder": at.path}
        found = open_encoder(head, **files, device=str(device))
    else:
        raise ValueError(
            f"{at.path}/model.json: kind: expected estimator, redirector, identity or encoder, "
            f"found {kind!r}"
        )
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


def about_networks(
    declaration: Declaration, places: Mapping[str, NetworkFile | str | Path]
) -> dict[str, dict]:
    """What a model's record has of the networks that it is made with, by role."""
    found = {}
    for one in declaration.used:
        at = network_file(places[one.role])
        found[one.role] = {
            "entry": one.entry,
            "always": one.always,
            "fingerprint": fingerprint(at.weights),
            # What is not trained here may lie anywhere.
            **({"path": at.path, "options": dict(at.options)} if at.options else {}),
        }
    return found


def _always(folder: Path, record: Mapping, device) -> dict[str, nn.Module]:
    """The networks that a trained model makes its pictures with, by role."""
    found = {}
    for role, about in record.get("networks", {}).items():
        if not about["always"]:
            continue
        head = str(models_folder(folder).parent / HEAD)
        beside = NetworkFile(str(_beside(folder, about["entry"])))
        if "path" in about:
            beside = NetworkFile(about["path"], about["options"], head)
        now = fingerprint(beside.weights)
        if now != about["fingerprint"]:
            raise ValueError(
                f"{beside.path}: expected the {role} that {record['name']!r} was trained with "
                f"({about['fingerprint']}), found {now}; train {record['name']!r} again"
            )
        found[role] = load_network(beside, device)
    return found


def _beside(folder: Path, entry: str) -> Path:
    """The model folder of another entry; models of a study lie deeper than those that they use."""
    homes = [models_folder(folder), *(above / "models" for above in folder.resolve().parents)]
    found = (home / entry for home in homes if (home / entry / "model.json").is_file())
    return next(found, homes[0] / entry)
