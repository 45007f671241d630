"""One estimator of the study: trained on few labels, and its errors picture by picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from regaze.angles import angular_error
from regaze.estimators.evaluate import predict_rows
from regaze.estimators.stage import train_estimator
from regaze.estimators.store import load_estimator
from regaze.faces import FacesReader
from regaze.outputs import replacing
from regaze.training.context import ModelFiles
from regaze.training.labels import SHARED
from regaze.training.state import mark_finished

SCHEMA = pa.schema(
    [
        ("person", pa.string()),
        ("row", pa.int64()),
        ("gaze_deg", pa.float32()),
        ("head_deg", pa.float32()),
    ]
)
_LABELS = b"labels"


def train_and_measure(
    name: str,
    config: Mapping,
    *,
    faces: Sequence[str],
    split: str,
    persons: str,
    seed: int,
    augmented: str | None,
    state: str,
    errors: str | PathLike,
    code: str | None = None,
    **outputs: str,
) -> None:
    """Train an estimator and write its folder and its errors.

    Args:
        name: of the estimator.
        config: :func:`regaze.few_labels.settings.estimator_entry`.
        faces: shards of the data set.
        split: split JSON.
        persons: list of the split that is measured on.
        seed: seed of training.
        augmented: faces file with redirected pictures to learn from; None: the labelled samples.
        state: folder of the resumable state.
        errors: parquet to write, see :func:`write_errors`.
        code: version of the sources that decide the weights; None takes all of the library.
        outputs: ``model``, ``record`` and ``curve`` to write.
    """
    files = ModelFiles(state=state, **outputs)
    data = {"faces": faces, "split": split, "augmented": augmented}
    train_estimator(name, config, **data, seed=seed, files=files, code=code, finished=False)
    threads = config["train"]["threads"]
    folder = Path(outputs["model"]).parent
    write_errors(folder, faces=faces, split=split, persons=persons, threads=threads, output=errors)
    if not config.get("checkpoint"):
        mark_finished(state)


def write_errors(
    folder: str | PathLike,
    *,
    faces: Sequence[str],
    split: str | PathLike,
    persons: str,
    threads: int,
    output: str | PathLike,
) -> None:
    """Measure a trained estimator on every picture of a list of the split.

    Args:
        folder: model folder of the estimator.
        faces: shards of the data set.
        split: split JSON.
        persons: list that is measured on.
        threads: CPU threads.
        output: parquet to write: ``person``, ``row`` (of the person), ``gaze_deg``, ``head_deg``;
            the number of labels that the estimator learnt from is in its metadata.

    Raises:
        ValueError: the list has no pictures.
    """
    torch.set_num_threads(threads)
    network, reader = load_estimator(folder), FacesReader(faces)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    people = json.loads(Path(split).read_text(encoding="utf-8"))
    rows = reader.rows(people[persons])
    if not len(rows):
        raise ValueError(f"{split}: list {persons!r} has no pictures in {faces[0]}")
    found = predict_rows(network, reader, rows).astype(np.float64)
    truth = reader.labels[rows].astype(np.float64)
    labels = network.record["config"].get("labels")
    number = labels["count"] if labels else len(reader.rows(people[SHARED]))
    columns = {
        "person": [reader.persons[code] for code in reader.person_of[rows]],
        "row": reader.row_of[rows],
        "gaze_deg": angular_error(found[:, :2], truth[:, :2]),
        "head_deg": angular_error(found[:, 2:], truth[:, 2:4]),
    }
    schema = SCHEMA.with_metadata({_LABELS: str(number).encode()})
    table = pa.Table.from_pydict(columns, schema=schema)
    with replacing(output) as part:
        pq.write_table(table, part, compression="zstd")


def read_errors(path: str | PathLike) -> tuple[pd.DataFrame, int]:
    """Errors of :func:`write_errors`, and the number of labels that were learnt from.

    Raises:
        ValueError: the file is of another kind.
    """
    table = pq.read_table(path)
    if (table.schema.metadata or {}).get(_LABELS) is None or not table.schema.equals(SCHEMA):
        raise ValueError(
            f"{path}: expected columns {', '.join(SCHEMA.names)} and the number of labels, "
            f"found {', '.join(table.schema.names)}"
        )
    return table.replace_schema_metadata().to_pandas(), int(table.schema.metadata[_LABELS])
