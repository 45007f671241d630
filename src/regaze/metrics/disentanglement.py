"""What changes that should not: induced errors under random turns of one factor.

Two protocols, both with turns e ~ U(-0.1 pi, 0.1 pi) drawn per picture:

- ``angles``, for every redirector: it is told its source's own directions, then the same with one
  factor of :data:`regaze.factors.FACTORS` turned by e; the change of the *others* between the two
  pictures counts.
- ``factors``, ST-ED's own (zhengyuf/STED-gaze ``models/st_ed.py``), for methods that describe a
  face by separate factors (:class:`regaze.redirectors.base.Perturbable`): one factor's embedding is
  turned from its own angles by e and compared with the method's reconstruction, not the source.

Changes are between readings of the evaluation estimator. Turns depend on (seed, data set, picture,
factor) alone.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from regaze.albums import evaluated_persons, free_rows, read_albums
from regaze.estimators.evaluate import read_images
from regaze.estimators.store import load_estimator
from regaze.faces import FacesReader
from regaze.factors import FACTORS
from regaze.images import to_uint8
from regaze.masks.background import faces_reader
from regaze.metrics.induced import CHANGES, SCHEMA, TURNED
from regaze.metrics.redirection import Reading, factor_errors
from regaze.outputs import replacing
from regaze.redirectors.base import Batch, Perturbable, Redirector, State
from regaze.redirectors.personal import weights_fingerprint
from regaze.redirectors.sample import Engine

log = logging.getLogger("regaze.metrics")

LIMIT = 0.1 * np.pi
"""Largest turn of directions, radians."""


def turn(
    seed: int, dataset: str, sample: int, factor: str, count: int, limit: float = LIMIT
) -> np.ndarray:
    """Return the turns (count,) of one factor of one picture, U(-limit, limit), in radians."""
    names = [zlib.crc32(name.encode()) for name in (dataset, factor)]
    generator = np.random.default_rng([seed, *names, sample])
    return generator.uniform(-limit, limit, count)


def changes(reference: Reading, turned: Reading) -> dict[str, np.ndarray]:
    """Return how far each factor moved between readings of n pictures, (n,) in its unit."""
    return factor_errors(turned, {name: one.read(reference) for name, one in FACTORS.items()})


def turned_angles(
    redirector: Redirector, state: State, target: Batch, turns: Mapping[str, Tensor], seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield ``("", pictures)`` for what is there, then for each factor turned alone.

    Args:
        redirector: any method.
        state: of the sources.
        target: requests for the sources' own directions.
        turns: by factor, such as ``gaze`` and ``head`` (B,2) radians.
        seed: of the pictures; the noise of all of them is the same.
    """
    yield "", redirector.edit(state, target, seed=seed)
    for factor, change in turns.items():
        name = f"target_{factor}"
        changed = {**target, name: target[name] + change}
        yield factor, redirector.edit(state, changed, seed=seed)


def turned_factors(
    redirector: Perturbable, state: State, turns: Mapping[str, Tensor], seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield ``("", pictures)`` for the reconstruction, then for every factor turned alone.

    ``turns`` holds (B,n) radians for every name of ``redirector.angles()``.
    """
    yield "", redirector.reconstruct(state, seed=seed)
    for factor in redirector.angles():
        yield factor, redirector.perturb(state, factor, turns[factor], seed=seed)


def perturb_redirector(
    folder: str | Path,
    *,
    faces: Sequence[str],
    split: str | Path,
    persons: str,
    dataset: str,
    estimator: str | Path,
    sampling: Mapping,
    pictures: int,
    seed: int,
    output: str | Path,
    inputs: Mapping[str, Sequence[str]] | None = None,
    view: Sequence[str] | None = None,
    view_masks: Sequence[str] | None = None,
    size_px: int | None = None,
    masks: Sequence[str] | None = None,
    background: Sequence[int] = (0, 0, 0),
    albums: str | Path | None = None,
) -> None:
    """Turn factors of evenly spread pictures and write what the estimator reads.

    Args:
        folder: model folder of a trained redirector.
        faces, split, persons: shards of the data set, split JSON, and the list of it to draw from.
        dataset: name of the data set, part of the seed.
        estimator: model folder of the evaluation estimator.
        sampling: options of sampling, the workflow's and the entry's.
        pictures: how many; all of them when there are fewer.
        seed: of the turns.
        output: ``perturbed.parquet`` (:data:`SCHEMA`).
        inputs: shards by kind of what the model reads of pictures besides pixels.
        view, view_masks, size_px, masks, background: as in
            :func:`regaze.redirectors.sample.sample_redirector`.
        albums: JSON of albums, whose pictures are not turned.

    Raises:
        ValueError: the list has no pictures or the data set has no gaze labels.
    """
    torch.set_num_threads(sampling["threads"])
    reader = faces_reader(faces, masks, background)
    if not reader.gaze_known:
        raise ValueError(f"{reader.paths[0]}: data set {dataset!r} has no gaze labels to start at")
    own = faces_reader(view, view_masks, background) if view else None
    engine = Engine(folder, sampling, reader, inputs or {}, own, size_px)
    network = load_estimator(estimator).to(engine.device)
    table = engine.shown(_samples(reader, split, persons, pictures, read_albums(albums)))
    if not len(table):
        raise ValueError(f"{split}: {persons}: none of the pictures turned is in the model's view")
    parts = []
    for rows in engine.chunks(table):
        with torch.no_grad():
            parts += _read(engine, network, rows, dataset, seed)
    metadata = {
        "estimator": network.fingerprint,
        "preprocess": network.preprocess,
        "model": weights_fingerprint(folder),
        "limit_deg": float(np.rad2deg(LIMIT)),
        "seed": seed,
        "dataset": dataset,
    }
    _write(output, pd.concat(parts, ignore_index=True), metadata)


def _samples(
    reader: FacesReader, split: str | Path, persons: str, count: int, albums: Mapping
) -> pd.DataFrame:
    people = json.loads(Path(split).read_text(encoding="utf-8"))
    if persons not in people:
        raise ValueError(f"{split}: expected a list {persons!r}, found {', '.join(sorted(people))}")
    chosen = evaluated_persons(people[persons], albums)
    rows = reader.rows(chosen)
    if albums:
        free = [reader.rows([person])[free_rows(reader, person, albums)] for person in chosen]
        rows = np.concatenate(free)
    if not len(rows):
        raise ValueError(f"{split}: {persons}: none of {len(people[persons])} persons has pictures")
    numbers = np.linspace(0, len(rows), min(count, len(rows)), endpoint=False).astype(np.int64)
    chosen = rows[numbers]
    table = pd.DataFrame(
        {
            "pair": numbers,
            "person": [reader.persons[code] for code in reader.person_of[chosen]],
            "source_index": reader.row_of[chosen],
            "target_index": -1,
        }
    )
    for name, factor in FACTORS.items():
        for side in ("source", "target"):
            table[f"{side}_{name}"] = list(factor.labels(reader, chosen))
    return table


def _read(engine: Engine, network, rows, dataset, seed) -> list[pd.DataFrame]:
    samples, redirector, noise = rows["pair"].to_numpy(), engine.redirector, engine.sampling["seed"]

    def turns_of(factors: Mapping[str, int]) -> dict[str, Tensor]:
        found = {}
        for name, count in factors.items():
            limit = (FACTORS[name].turn if name in FACTORS else None) or LIMIT
            drawn = [turn(seed, dataset, int(n), name, count, limit) for n in samples]
            found[name] = torch.from_numpy(np.stack(drawn)).to(engine.device, torch.float32)
        return found

    state, target = engine.invert(engine.requests(rows))
    turns = turns_of({name: len(FACTORS[name].parts) for name in TURNED})
    runs = {"angles": turned_angles(redirector, state, target, turns, noise)}
    if isinstance(redirector, Perturbable):
        turns = turns_of(redirector.angles())
        runs["factors"] = turned_factors(redirector, state, turns, noise)
    found = []
    for protocol, pictures in runs.items():
        reference = None
        for factor, made in pictures:
            images = engine.compared(made, rows)
            reading = Reading(read_images(network, images), None, to_uint8(images))
            if reference is None:
                reference = reading
                continue
            moved = changes(reference, reading)
            found.append(
                pd.DataFrame(
                    {
                        "sample": samples,
                        "person": rows["person"].to_numpy(),
                        "index": rows["source_index"].to_numpy(),
                        "protocol": protocol,
                        "factor": factor,
                        **{CHANGES[name]: values for name, values in moved.items()},
                    }
                )
            )
    return found


def _write(path: str | Path, table: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    table = table.sort_values(["protocol", "factor", "sample"], kind="stable")
    table = table.astype(dict.fromkeys(CHANGES.values(), np.float32))
    content = pa.Table.from_pandas(table[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    told = {"perturbed": json.dumps(dict(metadata), sort_keys=True)}
    with replacing(path) as part:
        pq.write_table(content.replace_schema_metadata(told), part, compression="zstd")
