"""Entries with a model per person: trained on albums, gathered in one record, found by person.

``results/models/<entry>/album-NNN/<person>/`` are model folders like all others; ``model.json`` of
the entry tells in which of them a person is.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import pandas as pd

from regaze.albums import read_albums
from regaze.outputs import replacing, write_json
from regaze.provenance import content_hash, fingerprint
from regaze.redirectors.patches import KEY
from regaze.redirectors.train import Album, TrainingData, train_redirector
from regaze.sources.splits import deal
from regaze.training.context import ModelFiles
from regaze.training.state import mark_finished
from regaze.weights import read_record

RECORD, WEIGHTS, CURVE = "model.json", "model.safetensors", "curve.csv"


def train_albums(
    name: str,
    config: Mapping,
    data: TrainingData,
    *,
    albums: str | PathLike,
    size: int | None,
    shard: int,
    shards: int,
    seed: int,
    folder: str | PathLike,
    state: str | PathLike,
    code: str | None = None,
) -> None:
    """Train a redirector for every person of a shard and write a folder with a model folder each.

    A call that was interrupted goes on in the middle of a person; those before are not trained
    again.

    Args:
        name: entry of ``models:``.
        config: that entry resolved to plain values.
        data: what it is trained on and with.
        albums: JSON of rows by person.
        size: the first so many pictures of an album; None: all.
        shard: number of the shard.
        shards: how many there are; persons are dealt to them.
        seed: seed of initial weights, order and noise.
        folder: to write.
        state: folder of the resumable states, one per person.
        code: see :func:`regaze.redirectors.train.train_redirector`.
    """
    rows = read_albums(albums)
    persons = deal(rows, shards)[shard]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for person in persons:
        # Beside the state, since a job that fails loses its outputs.
        files = _files(Path(state, person, "model"), Path(state, person))
        album = Album(person, tuple(rows[person][:size]))
        train_redirector(
            f"{name}/{person}",
            config,
            data,
            seed=seed,
            files=files,
            code=code,
            album=album,
        )
    for person in persons:
        shutil.copytree(Path(state, person, "model"), Path(folder, person), dirs_exist_ok=True)
    for person in persons:
        mark_finished(Path(state, person))


def _files(folder: Path, state: Path) -> ModelFiles:
    folder.mkdir(parents=True, exist_ok=True)
    return ModelFiles(folder / WEIGHTS, folder / RECORD, folder / CURVE, state)


def gather_albums(
    name: str, folders: Sequence[str | PathLike], record: str | PathLike, curve: str | PathLike
) -> list[str]:
    """Write the record and the mean curve of the models of all persons; returns the persons.

    Args:
        name: entry of ``models:``.
        folders: what :func:`train_albums` wrote, beside ``record``.
        record: ``model.json`` to write. ``albums`` tells the folder and the weights of every
            person, ``fingerprint`` is over all of these; the rest is as of every one of them, but
            for what is told of a single person's patches.
        curve: ``curve.csv`` to write.

    Raises:
        ValueError: nobody has a model.
    """
    found = {
        one.parent.name: one.parent
        for folder in sorted(map(Path, folders))
        for one in sorted(folder.glob(f"*/{RECORD}"))
    }
    if not found:
        raise ValueError(f"{record}: expected models of persons in {', '.join(map(str, folders))}")
    persons = sorted(found)
    records = {person: read_record(found[person] / RECORD) for person in persons}
    first = records[persons[0]]
    albums = {
        person: {
            "folder": str(found[person].relative_to(Path(record).parent)),
            "fingerprint": records[person]["fingerprint"],
            "rows": records[person]["data"]["album"],
        }
        for person in persons
    }
    pictures = len(next(iter(albums.values()))["rows"])
    write_json(
        record,
        {
            **{key: value for key, value in first.items() if key != KEY},
            "name": name,
            "albums": albums,
            "fingerprint": content_hash([[p, albums[p]["fingerprint"]] for p in persons]),
            "told": f"{first['told']}; {pictures} pictures of each person, who has a model alone",
        },
    )
    curves = [pd.read_csv(found[person] / CURVE) for person in persons]
    mean = pd.concat(curves).groupby(level=0).mean(numeric_only=True)
    with replacing(curve) as part:
        mean.to_csv(part, index=False, float_format="%.6g", na_rep="nan", lineterminator="\n")
    return persons


def entry_record(folder: str | PathLike) -> dict:
    """The record of an entry with a model per person, nothing where the folder is of one model."""
    record = Path(folder, RECORD)
    if Path(folder, WEIGHTS).is_file() or not record.is_file():
        return {}
    found = read_record(record)
    return found if "albums" in found else {}


def folder_of(folder: str | PathLike, record: Mapping, person: str) -> Path:
    """The model folder of a person of an entry with a model per person.

    Raises:
        ValueError: the person has none.
    """
    if person not in record["albums"]:
        known = ", ".join(record["albums"])
        raise ValueError(f"{folder}: expected a model of {person!r}, found those of {known}")
    return Path(folder, record["albums"][person]["folder"])


def weights_fingerprint(folder: str | PathLike) -> str:
    """The fingerprint of a model's weights, or of those of all persons."""
    of_all = entry_record(folder)
    return str(of_all["fingerprint"]) if of_all else fingerprint(Path(folder) / WEIGHTS)
