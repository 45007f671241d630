"""What warps alone reach, without any network: PSNR inside the face, and milliseconds, by the turn.

Sources of the validation people are turned to their other pictures, over the ellipsoid and over
the heads of their codes, and compared with the true pictures. Needs the stage `latents`:

    python benchmarks/mesh_warp.py --results results
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from regaze.codes import DEFAULT_PARTS
from regaze.codes.condition import CodeRows
from regaze.face3d.model import load_flame
from regaze.faces import FacesReader
from regaze.images import eye_boxes, reduce_patches
from regaze.redirectors.xunet.mesh_warp import MeshWarp
from regaze.redirectors.xunet.warp import warp_head

SIZE = 64
BINS = (0.0, 0.1, 8.0, 15.0, 22.0, 90.0)


def decibels(found, wanted, mask):
    """PSNR (B,) over the pixels of masks (B, 1, H, W) of pictures in [-1, 1]."""
    error = ((found.clamp(-1, 1) - wanted) / 2).square().mean(1, keepdim=True)
    mask = mask.expand_as(error)
    return -10 * torch.log10((error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1))


def pairs_of(reader: FacesReader, persons, each: int):
    """Rows (N, 2) of two pictures of one person."""
    rng, found = np.random.default_rng(0), []
    for person in persons:
        rows = reader.rows([person])
        found += [rng.choice(rows, 2, replace=False) for _ in range(each)]
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--encoder", default="deca")
    parser.add_argument("--each", type=int, default=40, help="pairs per person")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    folder = chosen.results / chosen.dataset
    reader = FacesReader(sorted(map(str, folder.glob("faces/shard-*.h5"))))
    split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    files = sorted(map(str, folder.glob(f"latents/{chosen.encoder}/part-*.parquet")))
    rows = CodeRows({"parts": DEFAULT_PARTS}, files, reader)
    pairs = pairs_of(reader, split["val"], chosen.each)
    pairs = pairs[rows.known[pairs[:, 0]]]
    known, at = np.unique(pairs, return_inverse=True)
    pictures = reduce_patches(torch.from_numpy(reader.pixels(known)), SIZE).float()
    source, target = pictures[at.reshape(pairs.shape)].unbind(1)
    labels = torch.from_numpy(reader.labels[:, :4]).float()[pairs]
    heads, gazes = labels[..., 2:].unbind(1), labels[..., :2].unbind(1)
    codes = rows.read(pairs[:, 0])["code"]
    warp = MeshWarp(load_flame(chosen.results / "face3d/head.npz"), DEFAULT_PARTS, SIZE)

    def timed(make):
        began = time.process_time()
        return make(), 1000 * (time.process_time() - began) / len(pairs)

    over, first = timed(lambda: warp(source, codes, heads, gazes))
    _, again = timed(lambda: warp(source, codes, heads, gazes))
    ellipsoid, plain = timed(lambda: warp_head(source, *heads))
    face = (warp.views(codes, heads[1]).kind > 0)[:, None].float()
    eyes = torch.zeros(1, 1, SIZE, SIZE)
    for left, top, right, bottom in eye_boxes(SIZE):
        eyes[..., top:bottom, left:right] = 1
    turn = torch.rad2deg((heads[0] - heads[1]).norm(dim=1))
    print("| turn | pairs | copy | ellipsoid | mesh | hidden |\n|---|---|---|---|---|---|")
    for low, high in zip((-1.0, *BINS[1:-1]), BINS[1:], strict=True):
        some = (turn > low) & (turn <= high)
        cells = [
            ", ".join(f"{decibels(one, target, mask)[some].mean():.1f}" for mask in (face, eyes))
            for one in (source, ellipsoid, over[0])
        ]
        share = f"{100 * over[1][some].mean():.1f} %"
        print(f"| {max(low, 0):g}-{high:g} | {some.sum()} | {' | '.join(cells)} | {share} |")
    print(f"ms per image: ellipsoid {plain:.2f}, mesh {first:.2f}, its views kept {again:.2f}")


if __name__ == "__main__":
    main()
