"""Gaze sweeps as animations: the face stays, the gaze follows a path."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from regaze.animation import gif
from regaze.faces import FacesReader
from regaze.outputs import replacing
from regaze.report.drawing import INK, PAPER, dial, fitted, font
from regaze.samples import Samples

FRAME_MS = 90
_GAP = 2
"""Pixels between pictures."""
_CELLS = (128, 112, 96, 80, 64, 48)


@dataclass(frozen=True)
class SweepRun:
    """The consecutive ``sweep`` pairs of one source picture.

    Attributes:
        person: who is shown.
        source_index: row of the source within the person.
        pairs: numbers of the pairs in order.
        gaze: (n, 2) target (pitch, yaw) in degrees.
    """

    person: str
    source_index: int
    pairs: tuple[int, ...]
    gaze: np.ndarray


def sweep_runs(pairs: pd.DataFrame) -> list[SweepRun]:
    """Return the sweeps of a table of pairs in order of their first pair."""
    table = pairs[pairs["kind"] == "sweep"].sort_values("pair")
    if not len(table):
        return []
    source = list(zip(table["person"], table["source_index"], strict=True))
    starts = [0] + [i for i in range(1, len(source)) if source[i] != source[i - 1]]
    runs = []
    for start, end in zip(starts, [*starts[1:], len(source)], strict=True):
        part = table.iloc[start:end]
        runs.append(
            SweepRun(
                person=str(part["person"].iloc[0]),
                source_index=int(part["source_index"].iloc[0]),
                pairs=tuple(int(number) for number in part["pair"]),
                gaze=np.rad2deg(np.stack([np.asarray(g) for g in part["target_gaze"]])),
            )
        )
    return runs


def sweep_frames(
    faces: FacesReader,
    runs: Sequence[SweepRun],
    samples: Sequence[Samples],
    cell: int,
    *,
    paper: str | None = PAPER,
) -> list[Image.Image]:
    """Draw the frames: first row the sources with a dial of the gaze asked for, then the models.

    Args:
        faces: the stored patches.
        runs: one column each; shorter runs hold their last frame.
        samples: one row each; a pair that a model did not sample shows the frame before it.
        cell: side of a picture in pixels.
        paper: colour between pictures, None for transparency.

    Returns:
        RGB pictures (RGBA when transparent), one per step of the longest run.
    """
    length = max(len(run.pairs) for run in runs)
    stores = [store.pictures([p for run in runs for p in run.pairs]) for store in samples]
    size = max((store.size for store in samples), default=faces.patch_size)
    sources = []
    for run in runs:
        patch = faces.pixels([faces.global_index(run.person, run.source_index)])[0]
        sources.append(Image.fromarray(fitted(fitted(patch, size), (cell, cell))))
    pitch = cell + _GAP
    shape = (len(runs) * pitch - _GAP, (1 + len(samples)) * pitch - _GAP)
    background = (
        Image.new("RGBA", shape, (0, 0, 0, 0)) if paper is None else Image.new("RGB", shape, paper)
    )
    shown: dict[tuple[int, int], Image.Image] = {}
    frames = []
    for step in range(length):
        frame = background.copy()
        draw = ImageDraw.Draw(frame)
        for column, run in enumerate(runs):
            now = min(step, len(run.pairs) - 1)
            frame.paste(sources[column], (column * pitch, 0))
            _corner_dial(draw, column * pitch, cell, run.gaze[now])
            for row, found in enumerate(stores):
                picture = found.get(run.pairs[now])
                if picture is not None:
                    enlarged = fitted(picture, (cell, cell))
                    shown[row, column] = Image.fromarray(enlarged)
                if (row, column) in shown:
                    frame.paste(shown[row, column], (column * pitch, (row + 1) * pitch))
        frames.append(frame)
    return frames


def _corner_dial(draw, left, cell, gaze) -> None:
    radius = max(7, cell // 8)
    x, y = left + cell - radius - 4, cell - radius - 4
    draw.ellipse([x - radius - 2, y - radius - 2, x + radius + 2, y + radius + 2], fill=PAPER)
    dial(draw, (x, y), radius, gaze)


def encode(frames: Sequence[Image.Image], kind: str) -> bytes:
    """Return an endless animation as bytes.

    ``gif`` is that of :func:`regaze.animation.gif`; ``webp`` has full colour.

    Raises:
        ValueError: ``kind`` is neither.
    """
    if kind == "gif":
        return gif(frames, FRAME_MS)
    if kind == "webp":
        stream = io.BytesIO()
        frames[0].save(
            stream,
            format="WEBP",
            save_all=True,
            append_images=list(frames[1:]),
            duration=FRAME_MS,
            loop=0,
            quality=85,
            method=4,
        )
        return stream.getvalue()
    raise ValueError(f"animation: expected 'gif' or 'webp', found {kind!r}")


def sweep_animation(
    faces: FacesReader,
    pairs: pd.DataFrame,
    samples_by_model: Mapping[str, Samples | str | Path],
    out: str | Path,
    *,
    persons: int = 6,
    max_bytes: int = 600_000,
) -> None:
    """Write the sweeps of one model, or of several below each other, as ``.gif`` or ``.webp``.

    Columns are persons; the first row shows the sources, unchanged, with a dial of the gaze asked
    for, every further row a model. Give one model for its own animation, all for a comparison.

    Args:
        faces: the stored patches.
        pairs: all pairs; those of kind ``sweep`` are used.
        samples_by_model: per model its samples or their file, in the order of the rows.
        out: file to write; the same input gives the same bytes.
        persons: at most so many columns.
        max_bytes: pictures are made smaller, down to 48 pixels, until the file fits.

    Raises:
        ValueError: there are no sweep pairs, no model sampled them, or the suffix is unknown.
    """
    out = Path(out)
    stores = {
        name: value if isinstance(value, Samples) else Samples(value)
        for name, value in samples_by_model.items()
    }
    runs = usable_runs(pairs, stores)[:persons]
    if not runs:
        raise ValueError(f"{out}: expected sampled pairs of kind 'sweep', found none")
    names = ["source", *stores]
    content = b""
    for cell in _CELLS:
        frames = sweep_frames(faces, runs, list(stores.values()), cell)
        content = encode([_labelled(f, names, cell) for f in frames], out.suffix.lstrip("."))
        if len(content) <= max_bytes:
            break
    with replacing(out) as part:
        part.write_bytes(content)


def usable_runs(pairs: pd.DataFrame, stores: Mapping[str, Samples]) -> list[SweepRun]:
    """Return the sweeps of which every model sampled at least the first step."""
    return [
        run
        for run in sweep_runs(pairs)
        if stores and all(run.pairs[0] in store for store in stores.values())
    ]


def _labelled(frame: Image.Image, names: Sequence[str], cell: int) -> Image.Image:
    """Return the frame with the rows' names on its left."""
    face = font(max(10, cell // 9), bold=True)
    width = 12 + int(max(face.getlength(name) for name in names))
    wide = Image.new("RGB", (frame.width + width, frame.height), PAPER)
    wide.paste(frame, (width, 0))
    draw = ImageDraw.Draw(wide)
    pitch = (frame.height + _GAP) / len(names)
    for row, name in enumerate(names):
        draw.text((6, int((row + 0.5) * pitch)), name, INK, face, anchor="lm")
    return wide
