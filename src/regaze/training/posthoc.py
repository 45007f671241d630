"""Weights of any averaging width, made after training from snapshots of others.

The snapshots' weight profiles over the training are mixed so that they fit the wanted profile
best (:func:`regaze.diffusion.averages.posthoc_coefficients`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from regaze.diffusion.averages import posthoc_coefficients
from regaze.filetypes import unreadable
from regaze.outputs import replacing, write_json
from regaze.provenance import fingerprint
from regaze.weights import read_weights

MODEL, RECORD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Snapshot:
    """A stored average: its file, its relative width, and the images seen until then."""

    path: Path
    std: float
    images: int


def find_snapshots(folder: str | Path) -> list[Snapshot]:
    """Snapshots below a folder, by images and width.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is none of a snapshot.
    """
    found = []
    for path in sorted(Path(folder).glob("std*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["average"])
            found.append(Snapshot(path, float(about["std"]), int(about["images"])))
        except (SafetensorError, KeyError, ValueError) as error:
            clause = "not a snapshot of averaged weights"
            raise ValueError(unreadable(path, clause, "safetensors", error)) from None
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected snapshots of averaged weights, found none; they are stored in "
            "trainings with train.ema_std"
        )
    return sorted(found, key=lambda one: (one.images, one.std))


def mix(
    snapshots: list[Snapshot], std: float, images: int | None = None
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Weights of an average that was never followed.

    Args:
        snapshots: of one training; one file at a time is held in memory.
        std: relative width wanted.
        images: when; default the latest. Later snapshots are left out.

    Returns:
        ``(weights, coefficients)``: float32 state dict, whole numbers those of the last snapshot,
        and a number per snapshot used, which sum to 1.

    Raises:
        ValueError: widths out of range, nothing stored until ``images``, or snapshots that differ
            in their keys.
    """
    latest = max(one.images for one in snapshots)
    wanted = latest if images is None else images
    used = [one for one in snapshots if one.images <= wanted]
    if not used or wanted > latest:
        first = min(one.images for one in snapshots)
        raise ValueError(f"images: expected {first} to {latest}, found {wanted}")
    numbers = [one.images for one in used]
    shares = posthoc_coefficients(numbers, [one.std for one in used], wanted, std)[:, 0]
    total: dict[str, Tensor] = {}
    whole: dict[str, Tensor] = {}
    for one, share in zip(used, shares.tolist(), strict=True):
        with safe_open(one.path, "pt") as file:
            keys = set(file.keys())
            if total or whole:
                different = sorted(keys ^ (set(total) | set(whole)))
                if different:
                    raise ValueError(f"{one.path}: other weights than before: {different[:8]}")
            for key in keys:
                value = file.get_tensor(key)
                if not value.is_floating_point():
                    whole[key] = value
                elif key in total:
                    total[key].add_(value.double(), alpha=share)
                else:
                    total[key] = value.double() * share
    return {key: value.float() for key, value in total.items()} | whole, shares


def write_posthoc(
    model: str | Path,
    out: str | Path,
    std: float,
    *,
    images: int | None = None,
    state: str | Path | None = None,
) -> dict:
    """Write a model folder like ``model`` whose weights are averaged with another width.

    Args:
        model: folder of a trained model.
        out: folder to write ``model.safetensors`` and ``model.json`` into; not ``model`` itself.
        std, images: see :func:`mix`.
        state: folder of the training's state; default ``../../state/<name>`` seen from ``model``,
            where the workflow keeps it.

    Returns:
        The new ``model.json``, whose ``average`` tells std, images and snapshots used.

    Raises:
        FileNotFoundError: a file or the snapshots are missing.
        ValueError: the model was trained without ``train.ema_std``, its weights have other keys
            than the snapshots, or ``out`` is ``model``.
    """
    model, out = Path(model), Path(out)
    if out.resolve() == model.resolve():
        raise ValueError(f"{out}: expected another folder than the model's own")
    for name in (MODEL, RECORD):
        if not (model / name).is_file():
            raise FileNotFoundError(f"{model / name}: no such file; is the model trained?")
    record = json.loads((model / RECORD).read_text(encoding="utf-8"))
    if "snapshots" not in record:
        raise ValueError(
            f"{model / RECORD}: snapshots: expected the training's key, found none; the model was "
            "trained without train.ema_std"
        )
    home = Path(state) if state else model.resolve().parent.parent / "state" / record["name"]
    weights, shares = mix(find_snapshots(home / "ema" / record["snapshots"]), std, images)
    last, prefix = read_weights(model / MODEL), record.get("averaged", "")
    different = sorted({key for key in last if key.startswith(prefix)} ^ set(weights))
    if different:
        raise ValueError(f"{home}: other weights than the model's: {different[:8]}")
    # What is saved and not averaged is as the training ended.
    ordered = {key: value.contiguous() for key, value in sorted({**last, **weights}.items())}
    with replacing(out / MODEL) as part:
        part.write_bytes(save(ordered, {"format": "pt"}))
    record["fingerprint"] = fingerprint(out / MODEL)
    at = images or max(one.images for one in find_snapshots(home / "ema" / record["snapshots"]))
    record["average"] = {"std": std, "images": at, "snapshots_used": len(shares)}
    write_json(out / RECORD, record)
    return record
