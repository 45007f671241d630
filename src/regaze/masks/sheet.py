"""A sheet of faces with their masks laid over them, to see whether they fit."""

from __future__ import annotations

import os

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regaze.faces import FacesReader
from regaze.masks import NAMES, MasksReader
from regaze.normalise.contact_sheet import choose_rows
from regaze.outputs import replacing

COLOURS = np.array(
    [
        (0, 0, 0), (240, 180, 120), (120, 80, 200), (60, 220, 90), (40, 150, 250), (90, 110, 130),
        (230, 60, 200), (230, 60, 60), (170, 200, 90), (250, 220, 60), (120, 20, 40),
        (110, 60, 20), (250, 140, 30), (80, 200, 200),
    ],
    np.uint8,
)  # fmt: skip
"""Colour of every part on sheets, RGB."""

_PAPER, _INK = (24, 26, 30), (236, 238, 240)


def overlay(pixels: np.ndarray, segmentation: np.ndarray, scale: int) -> np.ndarray:
    """One face (H, W, 3) enlarged, with the parts tinted and the edges of head and eyes drawn."""
    size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    picture = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    parts = cv2.resize(segmentation, size, interpolation=cv2.INTER_NEAREST)
    tint = COLOURS[parts]
    out = np.where(parts[..., None] > 0, 0.55 * picture + 0.45 * tint, picture)
    edge = np.zeros(parts.shape, bool)
    edge[:, 1:] |= parts[:, 1:] != parts[:, :-1]
    edge[1:] |= parts[1:] != parts[:-1]
    out[edge] = 255
    return out.astype(np.uint8)


def mask_sheet(
    faces: FacesReader,
    masks: MasksReader,
    out_png: str | os.PathLike,
    *,
    count: int = 24,
    columns: int = 6,
    tile: int = 256,
) -> None:
    """Draw ``count`` faces with their masks over them and a key of the colours as a PNG.

    Args:
        faces, masks: of one data set.
        out_png: the picture.
        count: faces to show, spread over persons.
        columns: faces per line.
        tile: width of a face on the sheet in pixels, about.
    """
    rows = choose_rows(faces, count)
    width, height = faces.patch_size or (1, 1)
    scale = max(1, tile // width)
    wide, tall = width * scale + 8, height * scale + 8
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (max(columns * wide + 8, 640), 40 + lines * tall), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    left = 8
    for number in np.unique(masks.read(rows, ["segmentation"])["segmentation"])[:20]:
        draw.rectangle([left, 12, left + 14, 26], fill=tuple(COLOURS[number].tolist()))
        draw.text((left + 20, 10), NAMES[number], font=font, fill=_INK)
        left += 40 + int(draw.textlength(NAMES[number], font=font))
    for place, row in enumerate(rows):
        parts = masks.read([row], ["segmentation"])["segmentation"][0]
        picture = overlay(faces.pixels([row])[0], parts, scale)
        where = (8 + place % columns * wide, 40 + place // columns * tall)
        sheet.paste(Image.fromarray(picture), where)
    with replacing(out_png) as part:
        sheet.save(part, format="PNG")
