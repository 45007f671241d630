"""Trained models and estimators, found by name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regaze.estimators.store import load_estimator
from regaze.redirectors.declaration import Sampling, declared_by, sampling_defaults
from regaze.redirectors.personal import folder_of
from regaze.views import why_another
from regaze.weights import read_record

OF_PHOTOS, USUAL = "photo", "xunet"
"""Names of the models that are taken where none is named: for the gaze in photos, and else."""


def models_in(folder: str | os.PathLike, kind: str) -> dict[str, dict[str, Any]]:
    """Records of the trained models of a folder of models, by name; ``kind`` is redirector,
    estimator or identity.

    Folders without a readable ``model.json`` are passed over.
    """
    found = {}
    for record in sorted(Path(folder).glob("*/model.json")):
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("kind") == kind:
            found[record.parent.name] = content
    return found


def preferred(models: str | os.PathLike, *, photos: bool = True, heads: bool = False) -> str:
    """The model that is taken where none is named: :data:`OF_PHOTOS` for photos, if it is trained.

    Args:
        models: folder of trained models.
        photos: only photos and videos are redirected, no rows of data sets.
        heads: directions of heads are asked for.
    """
    known = models_in(models, "redirector")
    return OF_PHOTOS if photos and not heads and OF_PHOTOS in known else USUAL


def model_folder(models: str | os.PathLike, name: str) -> Path:
    """The folder of a redirector: a name in the folder of models, or a path.

    Of an entry with a model per person the name is ``<entry>/<person>``.

    Raises:
        ValueError: there is none; the message lists the ones there are.
    """
    known = models_in(models, "redirector")
    entry, _, person = name.partition("/")
    if person and "albums" in known.get(entry, {}):
        return folder_of(Path(models) / entry, known[entry], person)
    if name in known:
        if albums := known[name].get("albums"):
            told = ", ".join(f"{name}/{one}" for one in albums)
            raise ValueError(f"model: {name!r} is a model per person; expected one of {told}")
        return Path(models) / name
    if (Path(name) / "model.json").is_file():
        return Path(name)
    listed = ", ".join(known) or "none (train one first, or give --models)"
    raise ValueError(f"model: no trained {name!r} in {models}; there are: {listed}")


def open_estimator(
    models: str | os.PathLike, name: str | None = None, view: Mapping[str, Any] | None = None
):
    """An estimator of the folder of models; without a name the best on held-out people, or None.

    Without a name it is one of those that know faces in ``view`` (:func:`regaze.views.told_view`),
    or of all where none does.

    Raises:
        ValueError: there is none of that name; the message lists the ones there are.
    """
    known = models_in(models, "estimator")
    if name is None:
        if not known:
            return None

        def rank(key: str) -> tuple:
            record = known[key]
            error = float((record.get("held_out") or {}).get("gaze_deg", np.inf))
            return bool(why_another(view, record.get("view"))), error, key

        name = min(known, key=rank)
    elif name not in known:
        listed = ", ".join(known) or "none"
        raise ValueError(f"estimator: no trained {name!r} in {models}; there are: {listed}")
    return load_estimator(Path(models) / name)


def sampling_of(
    folder: Path, settings=None, steps: int | None = None, seed: int | None = None
) -> dict:
    """Options of sampling of a trained model: its entry's, if the configuration has it.

    Args:
        folder: model folder.
        settings: the checked configuration or None.
        steps, seed: what the user says instead.

    Raises:
        ValueError: steps of a model without a sampler.
    """
    record = read_record(folder / "model.json")
    config, (name, slash, _) = record["config"], str(record.get("name", "")).partition("/")
    # The model of a person is of an entry of all persons.
    name = name if slash else folder.name
    entry = None if settings is None else settings.models.get(name)
    if entry is not None and entry.class_ == config["class"]:
        made = settings.sampling_of(name)
    else:
        shared = Sampling() if settings is None else settings.sampling
        made = shared.model_dump() | sampling_defaults(config["class"])
    if steps is not None and not declared_by(config).denoises:
        raise ValueError(
            f"steps: model {folder.name!r} makes its pictures without a sampler; leave it out"
        )
    told = {"steps": steps, "seed": seed}
    return made | {name: value for name, value in told.items() if value is not None}
