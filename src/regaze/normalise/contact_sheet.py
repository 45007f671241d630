"""A sheet of patches with their labels drawn in, to see at a glance whether a data set is right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regaze.faces import FacesReader
from regaze.outputs import replacing

GAZE_COLOUR = (255, 214, 10)
HEAD_COLOUR = (64, 224, 208)
_PAPER, _INK, _FAINT = (24, 26, 30), (236, 238, 240), (150, 156, 164)
_SMOOTH = 3
_LENGTH = 0.7


@dataclass(frozen=True)
class Tile:
    """A patch of a sheet.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        label: gaze and head (pitch, yaw) in radians, 4 numbers or more, NaN where unknown.
        landmarks: (68, 2) pixels of the patch, None where unknown.
        name: written below it.
    """

    picture: np.ndarray
    label: np.ndarray
    landmarks: np.ndarray | None
    name: str


def spread(counts: Sequence[int], count: int) -> list[tuple[int, np.ndarray]]:
    """Return up to ``count`` rows spread evenly over persons, then over frames.

    Every person gets a row before anybody gets a second one.

    Args:
        counts: rows of each person.
        count: how many rows are wanted.

    Returns:
        Index of each person that is shown, with its rows (n,) int64.
    """
    persons = np.arange(len(counts))
    if not len(persons) or count < 1:
        return []
    if len(persons) > count:
        persons = np.linspace(0, len(persons) - 1, count).round().astype(int)
    share, extra = divmod(count, len(persons))
    chosen = []
    for number, person in enumerate(persons.tolist()):
        wanted = min(counts[person], share + (number < extra))
        # Frames lie in series; steps from the middle of each stretch see all of them.
        at = (np.arange(wanted) + 0.5) * counts[person] / max(wanted, 1)
        chosen.append((person, at.astype(np.int64)))
    return chosen


def choose_rows(reader: FacesReader, count: int) -> np.ndarray:
    """Return up to ``count`` global rows (int64), see :func:`spread`; the data alone decide."""
    persons = reader.persons
    chosen = spread([reader.count(person) for person in persons], count)
    parts = [reader.rows([persons[person]])[rows] for person, rows in chosen]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def contact_sheet(
    reader: FacesReader,
    out_png: str | Path,
    *,
    count: int = 48,
    columns: int = 8,
    title: str = "faces",
) -> None:
    """Draw ``count`` patches of a data set, see :func:`draw_sheet`."""
    rows = choose_rows(reader, count)
    marks = reader.has("landmarks")
    tiles = (
        Tile(
            reader.pixels([row])[0],
            reader.labels[row],
            reader.dataset("landmarks", [row])[0] if marks else None,
            f"{reader.persons[reader.person_of[row]]}  row {reader.row_of[row]}",
        )
        for row in rows
    )
    counts = f"{len(reader)} patches of {len(reader.persons)} persons"
    size = reader.patch_size or (1, 1)
    draw_sheet(tiles, len(rows), size, out_png, columns=columns, title=title, counts=counts)


def draw_sheet(
    tiles: Iterable[Tile],
    count: int,
    patch_size: tuple[int, int],
    out_png: str | Path,
    *,
    columns: int = 8,
    tile: int = 160,
    title: str,
    counts: str,
    words: str = "",
) -> None:
    """Draw patches with gaze and head arrows and write them as a PNG.

    An arrow of a label (pitch, yaw) runs from its start by dx = -L sin(yaw), dy = -L sin(pitch),
    the direction as seen in the image; L is 0.7 of the patch's width. The gaze arrow starts at
    the middle between the eyes when landmarks are known, else a quarter of the height above the
    middle; the head arrow starts at the middle of the patch. Degrees stand below each patch; a
    direction that is not known has no arrow.

    Args:
        tiles: the patches.
        count: how many they are.
        patch_size: their (width, height) in pixels.
        out_png: the picture.
        columns: patches per line.
        tile: width of a patch on the sheet in pixels.
        title, counts, words: the three lines of the heading.
    """
    width, height = patch_size
    tile_height = max(1, round(tile * height / width))
    caption, gap, head = 34, 8, 78
    columns = max(1, min(columns, max(count, 1)))
    lines = -(-count // columns)
    sheet_width = max(gap + columns * (tile + gap), 640)
    size = (sheet_width, head + lines * (tile_height + caption + gap) + gap)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    _heading(sheet, draw, gap, title, counts)
    draw.text((gap + 4, 54), words, font=ImageFont.load_default(13), fill=_FAINT)
    small = ImageFont.load_default(12)
    for number, one in enumerate(tiles):
        left = gap + (number % columns) * (tile + gap)
        top = head + (number // columns) * (tile_height + caption + gap)
        picture = Image.fromarray(one.picture)
        picture = picture.resize((tile * _SMOOTH, tile_height * _SMOOTH), Image.Resampling.BICUBIC)
        _arrows(picture, one.label, _between_eyes(one.landmarks, patch_size))
        sheet.paste(picture.resize((tile, tile_height), Image.Resampling.LANCZOS), (left, top))
        below = top + tile_height + 2
        draw.text((left, below), one.name, font=small, fill=_FAINT)
        gaze, turned = _degrees(one.label[:2]), _degrees(one.label[2:4])
        draw.text((left, below + 15), f"gaze {gaze}", font=small, fill=GAZE_COLOUR)
        draw.text((left + tile // 2, below + 15), f"head {turned}", font=small, fill=HEAD_COLOUR)
    with replacing(out_png) as part:
        sheet.save(part, format="PNG")


def _degrees(direction: np.ndarray) -> str:
    """Return (pitch, yaw) as whole degrees, ``unknown`` when one of them is not finite."""
    if not np.isfinite(direction).all():
        return "unknown"
    pitch, yaw = np.degrees(direction).round() + 0.0  # no minus zero
    return f"{pitch:+.0f} {yaw:+.0f}"


def _heading(sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, title: str, counts: str):
    draw.text((left + 4, 6), title, font=ImageFont.load_default(20), fill=_INK)
    draw.text((left + 4, 34), counts, font=ImageFont.load_default(13), fill=_FAINT)
    font = ImageFont.load_default(13)
    at = max(left + 250, sheet.width - 390)
    for number, (colour, words) in enumerate([(GAZE_COLOUR, "gaze"), (HEAD_COLOUR, "head")]):
        y = 16 + 18 * number
        _arrow(draw, (at, y), (at + 34, y), colour, 3)
        words = f"{words}: pitch, yaw in degrees (up +, image left +)"
        draw.text((at + 44, y - 9), words, font=font, fill=colour)


def _between_eyes(landmarks: np.ndarray | None, size: tuple[int, int]) -> tuple[float, float]:
    """Return where the gaze arrow starts, as fractions of the patch's width and height."""
    middle = np.full(2, np.nan) if landmarks is None else landmarks[36:48].mean(axis=0) / size
    if not np.isfinite(middle).all() or (middle < 0).any() or (middle > 1).any():
        return 0.5, 0.25 if size[0] == size[1] else 0.5
    return float(middle[0]), float(middle[1])


def _arrows(picture: Image.Image, label: np.ndarray, eyes: tuple[float, float]) -> None:
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    length = _LENGTH * width
    thick = max(2, round(width / 60))
    for start, (pitch, yaw), colour in (
        ((0.5 * width, 0.5 * height), label[2:4], HEAD_COLOUR),
        ((eyes[0] * width, eyes[1] * height), label[:2], GAZE_COLOUR),
    ):
        if not np.isfinite([pitch, yaw]).all():
            continue
        end = (start[0] - length * np.sin(yaw), start[1] - length * np.sin(pitch))
        # A dark rim keeps the arrow legible on skin and background alike.
        _arrow(draw, start, end, (0, 0, 0), thick, rim=2.0)
        _arrow(draw, start, end, colour, thick)


def _arrow(draw: ImageDraw.ImageDraw, start, end, colour, thick: int, rim: float = 0.0) -> None:
    """Draw an arrow, grown by ``rim`` pixels on all sides; a short one has a small head."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    reach = float(np.linalg.norm(end - start))
    radius = 0.9 * thick + rim
    draw.ellipse([*(start - radius), *(start + radius)], fill=colour)
    barb = min(3.2 * thick, 0.75 * reach)
    if barb < thick:
        return
    along = (end - start) / reach
    across = np.array([-along[1], along[0]])
    neck = end - along * barb
    draw.line([tuple(start), tuple(neck)], fill=colour, width=round(thick + 2 * rim))
    side = across * (0.5 * barb + 1.6 * rim)
    points = [end + along * 2.2 * rim, neck - along * rim + side, neck - along * rim - side]
    draw.polygon([tuple(point) for point in points], fill=colour)
