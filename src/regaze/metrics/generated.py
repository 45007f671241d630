"""What an inverter draws: of chance, and of unseen people; a sheet of pictures and distances."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from regaze.animation import tiled
from regaze.estimators.store import load_estimator
from regaze.metrics.frechet import Moments, bias_warning, frechet_distance
from regaze.metrics.inverted import InvertedFaces
from regaze.metrics.redirection import read_pictures
from regaze.metrics.similarity import eye_psnr, psnr
from regaze.outputs import replacing, write_json

_AT_A_TIME = 32
_COLUMNS = 12


def measure_inverter(
    faces: InvertedFaces,
    split: str | os.PathLike,
    estimator: str | os.PathLike,
    *,
    persons: str,
    seed: int,
    told: str | os.PathLike,
    sheet: str | os.PathLike,
) -> None:
    """Compare inversions of faces, and as many pictures of chance, with the faces themselves.

    Args:
        faces: of a data set, with their inversions.
        split: split JSON.
        estimator: model folder of the evaluation estimator, of whose features distances are.
        persons: name of the split's list; nobody that the inverter learnt from.
        seed: of the pictures of chance.
        told: JSON to write: ``faces`` (their number), ``psnr`` and ``eye_psnr`` (dB, means over
            faces) and ``frechet`` by ``inversions`` and ``chance``, a ``warning`` where faces are
            few.
        sheet: PNG to write: a row of faces, their inversions below, then two rows of chance.

    Raises:
        FileNotFoundError, ValueError: an input is missing or not as described, or nobody of the
            list has a face.
    """
    people = json.loads(Path(split).read_text(encoding="utf-8"))[persons]
    rows = faces.rows(people)
    if not len(rows):
        raise ValueError(f"{split}: {persons}: expected somebody with faces, found none")
    network = load_estimator(estimator)
    sums = {name: Moments(network.embedding_size) for name in ("faces", "inversions", "chance")}
    alike: dict[str, list[np.ndarray]] = {"psnr": [], "eye_psnr": []}
    for number, chunk in enumerate(np.split(rows, range(_AT_A_TIME, len(rows), _AT_A_TIME))):
        made = {
            "faces": faces.originals(chunk),
            "inversions": faces.pixels(chunk),
            "chance": faces.chance(len(chunk), seed + number),
        }
        for name, pictures in made.items():
            sums[name].add(read_pictures(network, pictures).embedding)
        true, ours = (torch.from_numpy(made[name] / 127.5 - 1) for name in ("faces", "inversions"))
        true, ours = (one.permute(0, 3, 1, 2).float() for one in (true, ours))
        alike["psnr"].append(psnr(ours, true))
        alike["eye_psnr"].append(eye_psnr(ours, true))
    distances = {name: frechet_distance(sums[name], sums["faces"]) for name in [*sums][1:]}
    found = {name: float(np.concatenate(values).mean()) for name, values in alike.items()}
    found |= {"faces": len(rows), "frechet": distances}
    if warning := bias_warning(len(rows), network.embedding_size):
        found["warning"] = warning
    write_json(told, found)
    _draw(faces, people, seed, sheet)


def _draw(faces: InvertedFaces, people: Sequence[str], seed: int, sheet) -> None:
    """A face each of the first persons, their inversions, and pictures of chance."""
    first = [faces.rows([person])[0] for person in people if faces.count(person)][:_COLUMNS]
    chance = faces.chance(2 * len(first), seed)
    shown = [faces.originals(np.array(first)), faces.pixels(np.array(first)), chance]
    stream = io.BytesIO()
    tiled(np.concatenate(shown), len(first), 2).save(stream, "PNG")
    with replacing(sheet) as part:
        part.write_bytes(stream.getvalue())
