"""From noise to picture: an animation of what a model believes the picture to be, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from regaze.animation import gif
from regaze.images import reduce_patches, to_uint8
from regaze.jobs import replacing
from regaze.masks.background import faces_reader
from regaze.pairs import read_pairs
from regaze.redirectors.face_codes import PairCodes
from regaze.redirectors.sample import load_redirector, pair_batch
from regaze.report.drawing import INK, PAPER, fitted, font
from regaze.report.grids import choose_pairs

CELL, GAP, LABEL = 128, 4, 64
"""Side of a picture, space between two, and width of the names of the rows, in pixels."""
FRAME_MS, LAST_MS = 120, 1800
"""How long a frame is shown, and how long the last one is held."""


def path_animation(
    folder: str | Path,
    out: str | Path,
    *,
    faces: Sequence[str],
    pairs: str | Path,
    sampling: Mapping,
    latents: Sequence[str] = (),
    masks: Sequence[str] | None = None,
    background: Sequence[int] = (0, 0, 0),
    persons: int = 6,
) -> None:
    """Write a GIF: sources, the denoising path of their redirections, true targets.

    Its frames are the estimates of the clean picture at up to 40 of the sampler's steps; the last
    one, the picture itself, is held.

    Args:
        folder: model folder of a redirector that samples with noise.
        out: file to write; the same input gives the same bytes.
        faces, pairs, sampling, latents, masks, background: as in
            :func:`regaze.redirectors.sample.sample_redirector`.
        persons: at most so many columns: a free pair each, chosen by order.

    Raises:
        ValueError: the model has no denoising path, or there are no free pairs.
        FileNotFoundError, ValueError: as ``sample_redirector``.
    """
    torch.set_num_threads(sampling["threads"])
    redirector, record = load_redirector(folder, sampling)
    sampler = getattr(redirector, "sampler", None)
    if not hasattr(sampler, "record_path"):
        raise ValueError(f"{folder}: {record['config']['class']!r} makes no picture from noise")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    redirector.to(device)
    reader = faces_reader(faces, masks, background)
    chosen = choose_pairs(read_pairs(pairs), "free", persons)
    if not len(chosen):
        raise ValueError(f"{pairs}: expected free pairs, found none")
    size = record["config"]["size_px"]
    batch = pair_batch(reader, chosen, size)
    if redirector.needs.latents:
        batch |= PairCodes(redirector, record, latents, reader).batch(chosen, batch)
    targets = [
        reader.global_index(person, index)
        for person, index in zip(chosen["person"], chosen["target_index"], strict=True)
    ]
    with torch.no_grad():
        batch = {key: value.to(device) for key, value in batch.items()}
        path = redirector.sampler.record_path(batch, seed=sampling["seed"])
    given = [to_uint8(batch["source"]), to_uint8(reduce_patches(reader.pixels(targets), size))]
    frames = [_frame(given[0], to_uint8(one), given[1]) for one in path]
    frames += [frames[-1]] * round(LAST_MS / FRAME_MS)
    with replacing(out) as part:
        part.write_bytes(gif(frames, FRAME_MS))


def _frame(source: np.ndarray, made: np.ndarray, target: np.ndarray) -> Image.Image:
    rows = {"source": source, "made": made, "target": target}
    pitch = CELL + GAP
    frame = Image.new("RGB", (LABEL + len(source) * pitch - GAP, 3 * pitch - GAP), PAPER)
    draw = ImageDraw.Draw(frame)
    for row, (name, pictures) in enumerate(rows.items()):
        draw.text((6, row * pitch + CELL // 2), name, INK, font(12, bold=True), anchor="lm")
        for column, picture in enumerate(pictures):
            enlarged = Image.fromarray(fitted(picture, (CELL, CELL)))
            frame.paste(enlarged, (LABEL + column * pitch, row * pitch))
    return frame
