"""The stage of an estimator: train it, or take over a published one, and measure it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from regaze.estimators.batches import ImageBatches
from regaze.estimators.build import build_estimator
from regaze.estimators.evaluate import held_out_error
from regaze.estimators.objective import Augmentation, EstimatorTask
from regaze.estimators.store import load_reference, load_xgaze_estimator
from regaze.faces import FacesReader
from regaze.provenance import fingerprint
from regaze.training.context import (
    START,
    ModelFiles,
    Training,
    labelled_faces,
    published,
    write_model,
)
from regaze.training.labels import labelled_numbers

log = logging.getLogger("regaze.training")


def train_estimator(
    name: str,
    config: Mapping,
    *,
    faces: Sequence[str],
    split: str,
    seed: int,
    files: ModelFiles,
    augmented: str | Path | None = None,
    code: str | None = None,
    finished: bool = True,
) -> None:
    """Train a gaze and head estimator and write its model folder.

    Args:
        name: entry of ``estimators:``.
        config: that entry as plain values.
        faces: shards of the data set.
        split: split JSON; ``config["persons"]`` names the list trained on, ``val`` validates and
            ``test`` gives the held-out error of ``model.json``.
        seed: seed of initial weights, order and augmentation.
        files: what is written.
        augmented: faces file of :mod:`regaze.few_labels` to learn from in place of ``faces``.
        code: version of the sources that decide the weights; None takes all of the library.
        finished: whether nothing else is to be made of the training; see
            :func:`regaze.training.state.mark_finished`.
    """
    about = {"kind": "estimator", "class": config["arch"]}
    if config.get("checkpoint"):
        network, told = _published(config, faces, split)
        about |= told
        write_model(name, config, network.state_dict(), START, about, files=files, seed=seed)
        return
    training = Training(name, config, faces=faces, split=split, seed=seed, files=files, code=code)
    reader = training.reader
    persons = training.learn_from(config["persons"], f"estimators.{name}.persons")
    val, test = (reader.rows(training.persons(part)) for part in ("val", "test"))
    learnt, chosen = reader, None
    if augmented is not None:
        learnt = labelled_faces([str(augmented)])
        training.data["augmented"] = fingerprint(augmented)
    elif config.get("labels"):
        chosen = labelled_numbers(reader, persons, config["labels"])
    network = build_estimator(
        config["arch"], config["preset"], config["size_px"], preprocess=config["preprocess"]
    )
    augmentation = Augmentation() if config["augment"] else None
    task = EstimatorTask(network, loss=config["loss"], augmentation=augmentation)

    def batches(rank, world):
        return ImageBatches(
            learnt,
            persons,
            size=config["size_px"],
            **training.share(rank, world),
            chosen=chosen,
            preprocess=config["preprocess"],
        )

    def validate():
        error = held_out_error(network, reader, val)
        degrees = {key: float(value) for key, value in error.items() if key.endswith("_deg")}
        return {"score": error["gaze_deg"] + error["head_deg"], **degrees}

    weights, points = training.run(task, batches, validate=validate)
    network.load_state_dict(weights)
    network.cpu().eval()
    with torch.no_grad():
        held_out = held_out_error(network, reader, test)
    log.info("held out: gaze %.2f, head %.2f degrees", held_out["gaze_deg"], held_out["head_deg"])
    training.write(weights, points, {**about, "held_out": {"list": "test", **held_out}})
    if finished:
        training.finish()


def _published(config: Mapping, faces: Sequence[str], split: str):
    """The network of ``config["checkpoint"]``, and what ``model.json`` tells of it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not the weights of this network, or no checkpoint at all.
    """
    load = load_xgaze_estimator if config["preset"] == "xgaze" else load_reference
    network = load(config["checkpoint"], config["arch"])
    about: dict[str, Any] = published(config["checkpoint"])
    reader = FacesReader(faces)
    rows = reader.rows(json.loads(Path(split).read_text(encoding="utf-8"))["test"])
    if reader.gaze_known and len(rows):
        about["held_out"] = {"list": "test", **held_out_error(network, reader, rows)}
    return network, about
