"""Recognisers on disk: the project's model folder, and published checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from regaze.identity.base import FaceRecogniser
from regaze.identity.iresnet import IResNet
from regaze.identity.irse import IrSe
from regaze.identity.mobilefacenet import MobileFaceNet
from regaze.identity.small import SmallRecogniser
from regaze.provenance import file_sha256, fingerprint
from regaze.weights import load_strictly, read_model, state_dict_of, torch_content


def build_recogniser(network: str, size_px: int = 64) -> FaceRecogniser:
    """Return an untrained recogniser; ``size_px`` is the input side of ``small`` and ``tiny``.

    Raises ValueError for an unknown name.
    """
    if network == "small":
        return SmallRecogniser(size_px)
    if network == "tiny":
        return SmallRecogniser(size_px, (8, 16, 16, 16), 16, name="tiny")
    published = {"irse50": IrSe, "iresnet50": IResNet, "mobilefacenet": MobileFaceNet}
    if network not in published:
        known = ", ".join([*published, "small", "tiny"])
        raise ValueError(f"identity.network: expected one of {known}, found {network!r}")
    return published[network]()


def load_published(
    path: str | os.PathLike, network: str, sha256: str | None = None
) -> FaceRecogniser:
    """Return a published recogniser with the weights of ``path``, in evaluation mode.

    The file is a torch file of plain tensors: a bare state dict, or one below ``state_dict``.
    FaceX-Zoo's checkpoints hold ``backbone.`` in front of every key of the network, beside the
    classes of its training, which are left out. Only plain tensors are unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another checksum, not a torch file of weights, or keys that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"identity.checkpoint: {path}: expected the weights of {network}, found no such file"
        )
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise ValueError(f"identity.sha256: {path}: expected {sha256}, found {found}")
    content = torch_content(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    content = state_dict_of(content, path)
    recogniser = build_recogniser(network)
    state = {key.removeprefix("module."): value for key, value in content.items()}
    inner = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    load_strictly(recogniser, inner or state, f"{path}: not the weights of {network}")
    return recogniser.eval().requires_grad_(False)


def load_recogniser(folder: str | os.PathLike) -> FaceRecogniser:
    """Return the recogniser of a model folder, in evaluation mode, without gradients.

    It gets the attributes ``record`` (the content of ``model.json``) and ``fingerprint``.

    Raises:
        FileNotFoundError: ``model.json`` or ``model.safetensors`` is missing.
        ValueError: another kind of model, or weights that do not fit.
    """
    record, weights, path = read_model(folder, "identity")
    network = build_recogniser(record["config"]["network"], record["config"]["size_px"])
    load_strictly(network, weights, path)
    network.record, network.fingerprint = record, fingerprint(path)
    return network.eval().requires_grad_(False)
