"""Animations as bytes; the same frames give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image


def gif(frames: Sequence[Image.Image], frame_ms: int) -> bytes:
    """Return an endless GIF of RGB frames, all of one size, that are shown for ``frame_ms`` each.

    One palette serves all frames and nothing is dithered, so that what stands still does not
    flicker.
    """
    palette = _palette(frames)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    stream = io.BytesIO()
    indexed[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=frame_ms,
        loop=0,
        optimize=False,
    )
    return stream.getvalue()


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """Return a palette picture that covers the colours of the whole animation."""
    width, height = frames[0].size
    few = [frames[i] for i in np.linspace(0, len(frames) - 1, min(4, len(frames))).astype(int)]
    sheet = Image.new("RGB", (width, height * len(few)))
    for number, frame in enumerate(few):
        sheet.paste(frame, (0, number * height))
    return sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
