"""A contact sheet of checked photos: eyes in eight directions, what was asked and what is read."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regaze.outputs import replacing
from regaze.photo_check.check import DIRECTIONS, KINDS, Checked, Reading

MOST = 40
"""Photos of a sheet; the tables have them all."""
_WIDTH, _HEIGHT, _GAP, _LINE, _HEAD = 200, 100, 8, 14, 26
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 30, 30), (110, 110, 110)


def draw_sheet(photos: Sequence[Checked], judges: Sequence[str], title: str) -> Image.Image:
    """Two rows per photo, the redirected ones and the control, the photo as it was at their left.

    Below each the change of gaze that was asked for and the change that each judge reads and the
    irises' place tells; pitch, then yaw.
    """
    tall = _HEIGHT + (3 + len(judges)) * _LINE + _GAP
    shown = photos[:MOST]
    size = (
        _GAP + (1 + DIRECTIONS) * (_WIDTH + _GAP),
        _HEAD + len(KINDS) * tall * len(shown) + _GAP,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 5), title, font=ImageFont.load_default(14), fill=_INK)
    for number, photo in enumerate(shown):
        for row, kind in enumerate(KINDS):
            top = _HEAD + (len(KINDS) * number + row) * tall
            told = [photo.source if row == 0 else kind]
            told.append(f"gaze told {_degrees(photo.gaze)}")
            told += [f"{judge} {_degrees(photo.judged[judge])}" for judge in judges]
            _cell(sheet, draw, 0, top, photo.eyes, told)
            readings = [one for one in photo.readings if one.kind == kind]
            for column, one in enumerate(readings, start=1):
                _cell(sheet, draw, column, top, one.picture, _lines(one, judges))
    return sheet


def write_sheet(path: str | os.PathLike, sheet: Image.Image) -> None:
    """Write a sheet as PNG."""
    with replacing(path) as part:
        sheet.save(part, format="PNG")


def _lines(one: Reading, judges: Sequence[str]) -> list[str]:
    lines = [f"asked {_degrees(one.wanted)}"]
    lines += [f"{judge} {_degrees(one.gaze[judge])}" for judge in judges]
    return [*lines, f"irises {_degrees(one.iris)}"]


def _degrees(angles: np.ndarray) -> str:
    if not np.isfinite(angles).all():
        return "unknown"
    pitch, yaw = np.degrees(angles).round() + 0.0  # no minus zero
    return f"{pitch:+.0f} {yaw:+.0f}"


def _cell(sheet, draw, column: int, top: int, picture: np.ndarray, lines: Sequence[str]) -> None:
    left = _GAP + column * (_WIDTH + _GAP)
    eyes = Image.fromarray(picture).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
    sheet.paste(eyes, (left, top))
    font = ImageFont.load_default(11)
    for number, line in enumerate(lines):
        at = (left, top + _HEIGHT + 2 + number * _LINE)
        draw.text(at, line[:38], font=font, fill=_INK if number == 0 else _FAINT)
