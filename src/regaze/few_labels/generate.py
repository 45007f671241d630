"""Redirect every labelled sample to directions drawn from the labels, into a faces file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from itertools import groupby
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.images import to_uint8
from regaze.metrics.targets import kde_targets
from regaze.redirectors.sample import Engine
from regaze.training.labels import SHARED, labelled_numbers

log = logging.getLogger("regaze.few_labels")

_BLOCK = 256
"""Samples that are redirected before any is written, at least; whole persons."""
_OTHER = 40
"""Bits below which a sample's number stands; above is which of its targets it is."""


def augment_faces(
    folder: str | PathLike,
    *,
    faces: Sequence[str],
    split: str | PathLike,
    labels: Mapping | None,
    sampling: Mapping,
    output: str | PathLike,
    seed: int,
    per_sample: int = 1,
    inputs: Mapping[str, Sequence[str]] | None = None,
    view: Sequence[str] | None = None,
) -> None:
    """Write a faces file of the labelled samples and their redirected versions.

    Rows of a person alternate: a sample as it is in ``faces``, then its redirected pictures; the
    dataset ``real`` is 1 and 0. Directions are drawn from the kernel density of the labels that may
    be used (:func:`regaze.metrics.targets.kde_targets`), each for its sample. Of a redirected
    picture only ``gaze_*`` and ``head_*`` are known. Redirected pictures of a smaller side are
    enlarged by repeating pixels, so that averaging them down gives them back.

    Args:
        folder: of the trained redirector.
        faces: shards of the data set.
        split: split JSON; samples are those of its list ``train-redirector``.
        labels: ``count`` and ``seed`` of the labelled subset; None: all samples.
        sampling: options of sampling, the workflow's and the entry's.
        output: faces file to write.
        seed: seed of the directions.
        per_sample: redirected pictures per sample.
        inputs: shards by kind of what the redirector reads of pictures besides pixels.
        view: shards of the faces in the redirector's own view, where that is another.

    Raises:
        FileNotFoundError: the redirector is not trained.
        ValueError: fewer samples than labels, labels without a density, or a redirector whose
            pictures do not divide the patches.
    """
    torch.set_num_threads(sampling["threads"])
    reader = FacesReader(faces)
    own, width = FacesReader(view) if view else None, reader.patch_size[0]
    engine = Engine(folder, sampling, reader, inputs or {}, own, width)
    persons = json.loads(Path(split).read_text(encoding="utf-8"))[SHARED]
    rows = reader.rows(persons)
    numbers = np.arange(len(rows))
    if labels is not None:
        numbers = labelled_numbers(reader, persons, labels)
    chosen = rows[numbers]
    targets = draw_targets(reader.labels[chosen, :4], numbers, seed, per_sample)
    size = engine.record["config"]["size_px"]
    if own is None and width % size:
        raise ValueError(f"{folder}: its {size} px do not divide the patch width {width}")

    def redirected(table) -> np.ndarray:
        made = []
        for chunk in engine.chunks(table):
            with torch.no_grad():
                state, target = engine.invert(engine.requests(chunk))
                pictures = engine.redirector.edit(state, target, seed=sampling["seed"])
                made.append(to_uint8(engine.compared(pictures, chunk)))
        whole = np.concatenate(made)
        return whole.repeat(width // whole.shape[2], 1).repeat(width // whole.shape[2], 2)

    table = _pairs(reader, chosen, numbers, targets)
    if lost := len(table) - len(engine.shown(table)):
        raise ValueError(
            f"{folder}: its view of the faces lacks {lost // per_sample} of {len(chosen)} photos "
            "(rejected.parquet beside them tells why); expected a redirector whose view has all"
        )
    with FacesWriter(output, _attributes(reader)) as writer:
        for places in _blocks(reader.person_of[chosen], _BLOCK):
            pictures = redirected(table.iloc[places.start * per_sample : places.stop * per_sample])
            pictures = pictures.reshape(-1, per_sample, *pictures.shape[1:])
            given = reader.pixels(chosen[places])
            # Persons within a block one after the other; none is in two blocks.
            people = reader.person_of[chosen[places]]
            for code in dict.fromkeys(people.tolist()):
                own = people == code
                known = chosen[places][own]
                writer.add_person(
                    reader.persons[code],
                    _alternate(given[own], pictures[own]),
                    _alternate(reader.labels[known], _labels(targets[places][own])),
                    real=np.tile(np.array([1] + [0] * per_sample, np.uint8), len(known)),
                )
    log.info("%d labelled samples, %d redirected", len(chosen), targets.shape[0] * per_sample)


def draw_targets(
    labels: np.ndarray, numbers: np.ndarray, seed: int, per_sample: int = 1
) -> np.ndarray:
    """Directions (m, per_sample, 4) float32 radians for samples by number, of labels (n, 4).

    Raises:
        ValueError: fewer than five labels, or labels that do not vary in all of gaze and head.
    """
    others = np.arange(per_sample, dtype=np.int64) << _OTHER
    index = (np.asarray(numbers, np.int64)[:, None] + others).ravel()
    try:
        drawn = kde_targets(labels, seed, index)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"labels: the {len(labels)} labels do not vary in all of gaze and head, so they have "
            "no density to draw from; label more samples"
        ) from None
    return drawn.reshape(len(numbers), per_sample, 4)


def _blocks(people: np.ndarray, size: int) -> list[slice]:
    """Runs of whole persons of at least ``size`` samples, but for the last."""
    blocks, start, stop = [], 0, 0
    for _, run in groupby(people.tolist()):
        stop += len(list(run))
        if stop - start >= size:
            blocks.append(slice(start, stop))
            start = stop
    return blocks + ([slice(start, stop)] if stop > start else [])


def _alternate(real: np.ndarray, made: np.ndarray) -> np.ndarray:
    """(n, ...) and (n, k, ...) to (n (k + 1), ...), each sample before its k others."""
    both = np.concatenate([real[:, None], made], 1)
    return both.reshape(-1, *real.shape[1:])


def _labels(targets: np.ndarray) -> np.ndarray:
    """(n, k, 4) directions as (n, k, 8) labels, those of single eyes unknown."""
    return np.concatenate([targets, np.full_like(targets, np.nan)], -1)


def _pairs(reader, chosen, numbers, targets) -> pd.DataFrame:
    """What is redirected to where, in the columns of a pairs table that methods look at."""
    count, per_sample = targets.shape[:2]
    rows = np.repeat(chosen, per_sample)
    start, end = reader.labels[rows, :4], targets.reshape(-1, 4)
    others = np.tile(np.arange(per_sample), count)
    return pd.DataFrame(
        {
            # The identity of the noise: the sample's own, and which of its targets it is.
            "pair": np.repeat(numbers, per_sample).astype(np.int64) + (others << _OTHER),
            "person": [reader.persons[code] for code in reader.person_of[rows]],
            "source_index": reader.row_of[rows],
            "target_index": np.full(len(rows), -1),
            "source_gaze": list(start[:, :2]),
            "source_head": list(start[:, 2:]),
            "target_gaze": list(end[:, :2]),
            "target_head": list(end[:, 2:]),
        }
    )


def _attributes(reader: FacesReader) -> FacesAttributes:
    said = reader.attributes
    return FacesAttributes(
        variant=str(said.get("variant", "custom")),
        patch_size=reader.patch_size,
        focal=float(said.get("focal", np.nan)),
        distance=float(said.get("distance", np.nan)),
        frame_check=str(said.get("frame_check", "unknown")),
        source="augmentation",
    )
