"""Small pieces shared by grids and sweeps: resizing, the bundled font, the direction dial."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, MUTED, RULE = "#ffffff", "#1c2430", "#5d6675", "#dde1e7"
DIAL_DEGREES = 25.0
"""Angle at the rim of a dial; directions beyond it are drawn on the rim."""


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return matplotlib's own DejaVu Sans, so that no picture depends on installed fonts."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H,W,3) uint8 to ``size`` (width, height): area mean down, Lanczos up."""
    height, width = picture.shape[:2]
    if (width, height) == tuple(size):
        return picture
    factor = width // size[0]
    if factor > 1 and (factor * size[0], factor * size[1]) == (width, height):
        # Pillow rounds after each axis; one mean over the block is what the methods were given.
        blocks = picture.reshape(size[1], factor, size[0], factor, 3)
        return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    method = Image.Resampling.BOX if size[0] < width else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, method))


def dial_position(direction) -> tuple[float, float]:
    """Return image offsets (x right, y down), in radii of the dial, of (pitch, yaw) in degrees.

    Pitch is positive upwards and yaw positive towards image left (see :mod:`regaze.angles`), so
    both signs turn; the dot lies where the eyes look as seen in the picture.
    """
    x, y = -float(direction[1]) / DIAL_DEGREES, -float(direction[0]) / DIAL_DEGREES
    length = max(1.0, float(np.hypot(x, y)))
    return x / length, y / length


def dial(draw: ImageDraw.ImageDraw, centre, radius: int, direction, *, start=None) -> None:
    """Draw a dial: a cross in a circle and a filled dot at ``direction`` (pitch, yaw) in degrees.

    ``start`` adds a hollow dot for where the source looks and a line between both.
    """
    x, y = centre
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=RULE, width=2)
    draw.line([x - radius, y, x + radius, y], RULE)
    draw.line([x, y - radius, x, y + radius], RULE)
    dot = max(3, radius // 7)

    def place(angles):
        dx, dy = dial_position(angles)
        return x + dx * (radius - dot), y + dy * (radius - dot)

    ex, ey = place(direction)
    if start is not None:
        sx, sy = place(start)
        draw.line([sx, sy, ex, ey], MUTED, width=1)
        draw.ellipse([sx - dot, sy - dot, sx + dot, sy + dot], fill=PAPER, outline=MUTED, width=2)
    draw.ellipse([ex - dot, ey - dot, ex + dot, ey + dot], fill=INK)
