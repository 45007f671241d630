"""Which directions a face is redirected to: single ones, tables, and paths of sweeps.

Degrees, pitch up positive, yaw towards the left of the picture positive (:mod:`regaze.angles`).
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regaze.sources.regular import open_regular

SWEEPS = ("ellipse", "line")
MOST_DEGREES = 90.0
_COLUMNS = ("gaze_pitch", "gaze_yaw", "head_pitch", "head_yaw")

Angles = tuple[float, float]


@dataclass(frozen=True)
class Request:
    """Directions in degrees; None keeps the source's. ``relative``: offsets from the source's.

    ``codes``: numbers (n,) of other factors (:data:`regaze.factors.CODED`), by name, in place of
    the source's.
    """

    gaze: Angles | None = None
    head: Angles | None = None
    relative: bool = False
    codes: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("gaze", "head"):
            checked(name, getattr(self, name))

    def resolve(self, gaze: np.ndarray, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Target gaze and head (2,) in radians of a source's, both (2,) in radians.

        Raises:
            ValueError: a target beyond 90 degrees.
        """
        made = []
        for name, source, wish in (("gaze", gaze, self.gaze), ("head", head, self.head)):
            target = np.asarray(source, np.float64)
            if wish is not None:
                wanted = np.radians(wish)
                target = target + wanted if self.relative else wanted
            checked(name, np.degrees(target))
            made.append(target)
        return made[0], made[1]


def checked(name: str, angles: Sequence[float] | np.ndarray | None) -> None:
    """Raise ValueError unless pitch and yaw are numbers within :data:`MOST_DEGREES`, or None."""
    if angles is None:
        return
    for which, value in zip(("pitch", "yaw"), angles, strict=True):
        if not (math.isfinite(value) and abs(value) <= MOST_DEGREES):
            raise ValueError(
                f"{name} {which}: expected degrees from -{MOST_DEGREES:g} to {MOST_DEGREES:g}, "
                f"found {value:g}"
            )


def read_table(path: str | os.PathLike, relative: bool = False) -> list[tuple[str, Request]]:
    """Lines of a CSV ``file_name,gaze_pitch,gaze_yaw[,head_pitch,head_yaw]`` in their order.

    Two empty cells keep the source's gaze, or head. A file may have any number of lines.

    Raises:
        OSError: the file cannot be read.
        ValueError: other columns, a cell that is no angle, or no line; the message names it.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, found {error.reason}") from None
    reader = csv.reader(lines)
    header = [cell.strip() for cell in next(reader, [])]
    if sorted(header) not in (
        sorted(("file_name", *_COLUMNS[:2])),
        sorted(("file_name", *_COLUMNS)),
    ):
        raise ValueError(
            f"{path}: expected the columns file_name,gaze_pitch,gaze_yaw and optionally "
            f"head_pitch,head_yaw; found {','.join(header)[:200] or 'none'}"
        )
    found = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path}: line {reader.line_num}"
        if len(cells) != len(header):
            raise ValueError(f"{where}: expected {len(header)} cells, found {len(cells)}")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        if not row["file_name"]:
            raise ValueError(f"{where}: file_name: expected a photo, found none")
        try:
            gaze, head = _pair(row, "gaze"), _pair(row, "head")
            found.append((row["file_name"], Request(gaze, head, relative)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if not found:
        raise ValueError(f"{path}: expected lines with angles, found none")
    return found


def _pair(row: dict[str, str], name: str) -> Angles | None:
    cells = [row.get(f"{name}_{which}", "") for which in ("pitch", "yaw")]
    if not any(cells):
        return None
    values = []
    for which, cell in zip(("pitch", "yaw"), cells, strict=True):
        try:
            values.append(float(cell))
        except ValueError:
            raise ValueError(f"{name}_{which}: expected degrees, found {cell!r}") from None
    return values[0], values[1]


def sweep(
    kind: str,
    frames: int,
    reach: Angles = (12.0, 20.0),
    centre: Angles = (0.0, 0.0),
    head: Angles | None = None,
    relative: bool = False,
) -> list[Request]:
    """A closed path of gaze directions.

    Args:
        kind: ``ellipse`` goes around ``centre``; ``line`` goes through it from one end
            (``centre - reach``) to the other and back, resting at the ends as eyes do.
        frames: pictures of one round.
        reach: half axes, pitch and yaw in degrees.
        centre, head, relative: as those of a :class:`Request`.

    Raises:
        ValueError: another kind, fewer than two frames, or angles beyond 90 degrees.
    """
    if kind not in SWEEPS:
        raise ValueError(f"sweep: expected one of {', '.join(SWEEPS)}, found {kind!r}")
    if frames < 2:
        raise ValueError(f"frames: expected at least 2, found {frames}")
    checked("reach", reach)
    turn = 2.0 * np.pi * np.arange(frames) / frames
    if kind == "ellipse":
        pitch, yaw = np.sin(turn), np.cos(turn)
    else:
        pitch = yaw = -np.cos(turn)
    path = np.stack([centre[0] + reach[0] * pitch, centre[1] + reach[1] * yaw], -1)
    return [Request((float(p), float(y)), head, relative) for p, y in path]
