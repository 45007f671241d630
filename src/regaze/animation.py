"""Animations as bytes; the same frames give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

GAP = 2
"""Pixels between the pictures of a tiled frame."""


def gif(frames: Sequence[Image.Image], frame_ms: int, hold_ms: int = 0) -> bytes:
    """Return an endless GIF of RGB frames, all of one size, that are shown for ``frame_ms`` each.

    One palette serves all frames and nothing is dithered, so that what stands still does not
    flicker. The last frame stays for ``hold_ms`` more.
    """
    palette = _palette(frames)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    stream = io.BytesIO()
    indexed[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=[frame_ms] * (len(frames) - 1) + [frame_ms + hold_ms],
        loop=0,
        optimize=False,
    )
    return stream.getvalue()


def tiled(pictures: np.ndarray, columns: int, scale: int = 1) -> Image.Image:
    """Return pictures (N, H, W, 3) uint8 side by side, ``columns`` in a row, on white.

    ``scale``: pixels become squares of so many.
    """
    pictures = np.asarray(pictures).repeat(scale, 1).repeat(scale, 2)
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    columns = min(columns, count)
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        sheet.paste(Image.fromarray(picture), (column * (width + GAP), row * (height + GAP)))
    return sheet


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """Return a palette picture that covers the colours of the whole animation."""
    width, height = frames[0].size
    few = [frames[i] for i in np.linspace(0, len(frames) - 1, min(4, len(frames))).astype(int)]
    sheet = Image.new("RGB", (width, height * len(few)))
    for number, frame in enumerate(few):
        sheet.paste(frame, (0, number * height))
    return sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
