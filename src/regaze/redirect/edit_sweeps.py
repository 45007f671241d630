"""Edits as animations: from the source to the edit and back, with a table of the frames."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from regaze.outputs import replacing
from regaze.redirect.angles import Request
from regaze.redirect.animate import write_animation
from regaze.redirect.run import Result

SWEEPS = ("gif", "mp4")
"""Kinds of files that a sweep is written to."""

_ANGLES = ("gaze_pitch", "gaze_yaw", "head_pitch", "head_yaw")


def check_sweep(kind: str | None, frames: int) -> None:
    """Raise ValueError unless a kind is None or one of :data:`SWEEPS`, with 2 frames or more."""
    if kind is not None and kind not in SWEEPS:
        raise ValueError(f"sweep: expected one of {', '.join(SWEEPS)}, found {kind!r}")
    if kind is not None and frames < 2:
        raise ValueError(f"frames: expected 2 or more, found {frames}")


def shares(frames: int) -> np.ndarray:
    """How much of an edit each frame (n,) has, from 0 to 1 and back, slow at both ends."""
    return (1 - np.cos(2 * np.pi * np.arange(frames) / frames)) / 2


def requests_between(own: Request, wanted: Request, frames: int) -> list[Request]:
    """Requests of the frames of a sweep.

    Args:
        own: what the source has: both directions, and every code that is asked for.
        wanted: the edit; what it leaves out stays as it is.
        frames: how many.
    """
    made = []
    for share in shares(frames):
        angles = {
            name: tuple(_between(getattr(own, name), asked, share).tolist())
            for name in ("gaze", "head")
            if (asked := getattr(wanted, name)) is not None
        }
        codes = {
            name: _between(own.codes[name], value, share).astype(np.float32)
            for name, value in wanted.codes.items()
        }
        made.append(Request(**angles, codes=codes))
    return made


def _between(first, last, share: float) -> np.ndarray:
    first, last = np.asarray(first, np.float64), np.asarray(last, np.float64)
    return first + share * (last - first)


def write_sweep(
    folder: Path, name: str, kind: str, asked: Sequence[Request], results: Sequence[Result]
) -> list[str]:
    """Write an animation of results and, beside it, a CSV with a line per frame.

    A line has the share of the edit, the directions in degrees, those that the estimator reads
    in the patch where there is one, and by how much codes changed (root mean square).

    Returns:
        The names of both files, the animation last.
    """
    files = [f"{name}.csv", f"{name}.{kind}"]
    shown = [one.patch if one.pasted is None else one.pasted for one in results]
    folder.mkdir(parents=True, exist_ok=True)
    write_animation(folder / files[1], shown)
    rows = [
        {"frame": number, "share": f"{share:.4f}", **_line(asked[0], request, one.facts)}
        for number, (share, request, one) in enumerate(
            zip(shares(len(results)), asked, results, strict=True)
        )
    ]
    with replacing(folder / files[0]) as part, open(part, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return files


def _line(first: Request, request: Request, facts: Mapping) -> dict[str, str]:
    angles = [*facts["target_gaze_deg"], *facts["target_head_deg"]]
    line = {name: f"{value:.3f}" for name, value in zip(_ANGLES, angles, strict=True)}
    if measured := facts.get("measured_photo", facts.get("measured_patch")):
        for name, value in zip(("pitch", "yaw"), measured["gaze_deg"], strict=True):
            line[f"measured_gaze_{name}"] = "" if value is None else f"{value:.3f}"
    for name, value in request.codes.items():
        apart = np.sqrt(np.square(value - first.codes[name]).mean())
        line[f"{name}_changed_rms"] = f"{apart:.5f}"
    return line
