"""How an encoder reads a change of expression between two photos that differ in nothing else.

    OMP_NUM_THREADS=1 python benchmarks/expressions.py results/models/deca

Photos are those of a data set with ``capture: {expressions: 1, lights: 1}``, such as `expressive`
of configs/diffusionrig.yaml, whose codes are known. Codes count by how far they move landmarks.
The slope is 1 where a change is read at its size; intervals are by persons.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
import torch

from regaze.face3d.deca import load_encoder
from regaze.face3d.ground_truth import read_ground_truth
from regaze.face3d.model import load_flame
from regaze.face3d.patches import crop_patches
from regaze.face3d.training import code_moves
from regaze.faces import FacesReader


def pairs_of(reader: FacesReader, rows: np.ndarray, parameters: Path) -> dict[int, np.ndarray]:
    """Places (n, 2) in ``rows`` of photos that differ in expression (1) and in light (2) alone."""
    source, person = reader.dataset("source_index", rows), reader.person_of[rows]
    plain, found = {}, {1: [], 2: []}
    with h5py.File(parameters) as file:
        for code in np.unique(person):
            group = file[reader.persons[code]]
            names = ("head_index", "gaze_index", "variation")
            head, gaze, variation = (group[name][:] for name in names)
            for place in np.flatnonzero(person == code):
                index = source[place]
                key = code, head[index]
                if variation[index]:
                    found[int(variation[index])].append((key, place))
                elif gaze[index] == 0:
                    plain[key] = place
    return {
        kind: np.array([(plain[key], place) for key, place in some if key in plain])
        for kind, some in found.items()
    }


def interval(values, people: np.ndarray, count: int = 1000) -> str:
    """A statistic of places with its 95 % interval, persons being drawn anew."""
    rng, names = np.random.default_rng(0), np.unique(people)
    drawn = []
    for _ in range(count):
        chosen = rng.choice(names, len(names))
        drawn.append(values(np.concatenate([np.flatnonzero(people == one) for one in chosen])))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{values(np.arange(len(people))):.3f} ({low:.3f} to {high:.3f})"


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoders", type=Path, nargs="+", help="model folders")
    parser.add_argument("--head", type=Path, default=Path("results/face3d/head.npz"))
    parser.add_argument("--data", type=Path, default=Path("results/expressive"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, capture = load_flame(given.head), given.data / "capture"
    reader = FacesReader([str(one) for one in sorted((given.data / "faces").glob("shard-*.h5"))])
    rows = reader.rows(json.loads((capture / "split.json").read_text())["test"])
    known = read_ground_truth(capture / "parameters.h5", reader, rows, model)
    pairs = pairs_of(reader, rows, capture / "parameters.h5")
    before, after = pairs[1].T
    people = reader.person_of[rows][before]
    for folder in given.encoders:
        encoder = load_encoder(folder, model)
        weight = code_moves(encoder.flame)[-known.exp.shape[1] :]
        crops = crop_patches(reader.pixels(rows), known.landmarks, encoder.size_px).images
        found = encoder.encode(crops)["exp"] * weight
        true = (known.exp[after] - known.exp[before]) * weight
        read = found[after] - found[before]
        lit = (found[pairs[2][:, 1]] - found[pairs[2][:, 0]]).square().sum(1).mean().sqrt()

        def slope(at, true=true, read=read):
            return float((true[at] * read[at]).sum() / true[at].square().sum())

        def likeness(at, true=true, read=read):
            return float((true[at] * read[at]).sum() / true[at].norm() / read[at].norm())

        scale = true.square().sum(1).mean().sqrt()
        print(
            f"{folder}: {len(before)} changes: slope {interval(slope, people)}, cosine "
            f"{interval(likeness, people)}; another light counts as {float(lit / scale):.2f} of one"
        )


if __name__ == "__main__":
    main()
