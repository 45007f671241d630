"""All combinations of looking and turning a little, as one sheet and a table of what came out.

The grid is that of the demonstration of lintsao/2023_Summer_Intern: head pitch, head yaw, gaze
pitch and gaze yaw are each -10, 0 or 10 degrees.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from regaze.outputs import replacing
from regaze.redirect.angles import Request
from regaze.redirect.run import Result, write_png

STEPS = (-10.0, 0.0, 10.0)
_PAIRS = tuple(itertools.product(STEPS, STEPS))
_CELL, _GAP, _LEFT, _TOP = 96, 2, 84, 18
_ASKED = tuple(f"{name}_{which}" for name in ("head", "gaze") for which in ("pitch", "yaw"))
COLUMNS = (
    *(f"asked_{name}" for name in _ASKED),
    *(f"used_{name}" for name in _ASKED),
    *(f"measured_{name}" for name in _ASKED),
    "head_error",
    "gaze_error",
)
"""Of the table, degrees: what the grid asks for, what of it lies in the trained range and was used,
what an estimator reads then, and how far off that is; empty where nothing measured."""


def grid(relative: bool = False) -> list[Request]:
    """81 requests: heads row by row, of each all gazes."""
    return [Request(gaze, head, relative) for head in _PAIRS for gaze in _PAIRS]


def write_table(path: str | os.PathLike, results: Sequence[Result]) -> None:
    """Write a CSV of :data:`COLUMNS`, a line for each result of :func:`grid`."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in results:
        lines.writerow(_line(one.facts))
    with replacing(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _line(facts: dict) -> list[str]:
    used = [facts[f"target_{name}_deg"] for name in ("head", "gaze")]
    asked = [
        facts.get(f"asked_{n}_deg", one) for n, one in zip(("head", "gaze"), used, strict=True)
    ]
    asked = np.concatenate([*asked, *used])
    read = facts.get("measured_patch") or facts.get("measured_photo")
    if read is None:
        return [f"{value:.2f}" for value in asked] + [""] * 6
    found = [*read["head_deg"], *read["gaze_deg"], read["head_error_deg"], read["gaze_error_deg"]]
    return ["" if value is None else f"{value:.2f}" for value in (*asked, *found)]


def mean_errors(results: Sequence[Result]) -> dict[str, float]:
    """Mean head and gaze error in degrees, of what was measured."""
    read = [one.facts.get("measured_patch") or one.facts.get("measured_photo") for one in results]
    found = {}
    for name in ("head", "gaze"):
        errors = [None if one is None else one[f"{name}_error_deg"] for one in read]
        if None not in errors:
            found[name] = float(np.mean(errors))
    return found


def draw_sheet(
    path: str | os.PathLike,
    results: Sequence[Result],
    source: np.ndarray,
    inversion: np.ndarray | None = None,
) -> None:
    """Draw the pictures of :func:`grid`: a row for each head, a column for each gaze.

    Args:
        path: PNG.
        results: of the requests, in order.
        source: (h, w, 3) uint8, what the model was shown; it stands above.
        inversion: (S, S, 3) uint8, what its generator makes of it, beside the source.
    """
    side, across = _CELL + _GAP, len(_PAIRS)
    size = (_LEFT + across * side, 2 * _TOP + (across + 1) * side)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)

    def lay(picture: np.ndarray, x: int, y: int) -> None:
        how = Image.Resampling.BOX if picture.shape[0] > _CELL else Image.Resampling.BICUBIC
        sheet.paste(Image.fromarray(picture).resize((_CELL, _CELL), how), (x, y))

    shown = [("source", source), ("inversion", inversion)]
    for number, (name, picture) in enumerate((n, p) for n, p in shown if p is not None):
        draw.text((_LEFT + number * side + 2, 3), name, "black")
        lay(picture, _LEFT + number * side, _TOP)
    top = 2 * _TOP + side
    for number, (pitch, yaw) in enumerate(_PAIRS):
        told = f"{pitch:+.0f} {yaw:+.0f}"
        draw.text((_LEFT + number * side + 2, top - _TOP + 3), f"gaze {told}", "black")
        draw.text((3, top + number * side + _CELL // 2 - 5), f"head {told}", "black")
    for number, one in enumerate(results):
        row, column = divmod(number, across)
        lay(one.patch, _LEFT + column * side, top + row * side)
    write_png(path, np.asarray(sheet))
