"""Where a face looks, by geometry: irises between corners and lids, and the direction of the head.

An eye turns about a point behind its lids. Seen from the front its iris is then as far from the
middle between the corners as the sine of the gaze says, 10.4 mm for all of it, and a head that
turns takes the corners along, by as much as they lie before that point. So gaze, as x and y of its
vector, is a weighted sum of iris and head; lids tell what of an iris they hide. Weights are
``gaze_from_mesh.json``, fitted by ``benchmarks/gaze.py`` on rendered people with a detector's
landmarks, as are the errors that are to be expected.
Nothing in it has learnt what eyes look like, and what separates the axis of a person's eye from
where they look (kappa) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from regaze.angles import angles_from_vector, vector_from_angles
from regaze.landmarks.irises import Irises, find_irises

TABLE = Path(__file__).with_name("gaze_from_mesh.json")
NAMES = ("pitch", "yaw")
LEAST_OPEN = 0.12
"""Of an eye's width: lids closer than that hide where it looks."""
MOST_YAW = np.radians(40.0)
"""Heads turned farther show one eye alone."""
_MOST = 0.7
"""Of x and y of a gaze that is read."""


@dataclass(frozen=True)
class GazeReading:
    """What is read.

    Attributes:
        gaze: (2,) pitch, yaw in radians, as labels are.
        error: (2,) standard deviations that are to be expected, radians.
        irises: what it was read from.
    """

    gaze: np.ndarray
    error: np.ndarray
    irises: Irises


class Unreadable(ValueError):
    """Eyes that tell nothing of where they look; the message says why."""


@cache
def table() -> Mapping:
    """Weights by name of :func:`features`, and those of the squared error."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def features(irises: Irises, head: np.ndarray) -> dict[str, dict[str, float]]:
    """What pitch and yaw are read from, by name; ``head`` (2,) radians.

    Up and down in widths of the eye, for people's eyes differ in size; to the sides eyes of a
    turned head are seen narrower, and mm are mm. A head's pitch does not help to read an eye's.
    """
    turned = float(vector_from_angles(np.asarray(head, np.float64))[0])
    disc, width = float(irises.disc[1]), irises.width
    return {
        "pitch": {
            "one": 1.0,
            "mesh": float(irises.mesh[1]) / width,
            "disc": disc / width,
            "upper lid": irises.upper / width,
            "lower lid": irises.lower / width,
            "doubted disc": disc * irises.doubt / width,
            "doubt": irises.doubt,
        },
        "yaw": {
            "one": 1.0,
            "mesh": float(irises.mesh[0]),
            "disc": float(irises.disc[0]),
            "head": turned,
        },
    }


def doubts(irises: Irises, head: np.ndarray) -> dict[str, float]:
    """What the squared error is expected from, by name."""
    yaw = float(head[1])
    return {"one": 1.0, "doubt": irises.doubt**2, "turned": yaw * yaw}


def read_gaze(
    photo: np.ndarray, points: np.ndarray, head: np.ndarray, per_mm: float
) -> GazeReading:
    """Read where a face looks.

    Args:
        photo: (H, W, 3) uint8.
        points: (478, 2) mesh points, pixels of the photo.
        head: (2,) pitch, yaw of the head in radians, as labels are.
        per_mm: pixels of the photo per mm at the face.

    Raises:
        Unreadable: lids are closed, or the head is turned too far.
    """
    if abs(head[1]) > MOST_YAW:
        raise Unreadable(f"the head is turned by {np.degrees(head[1]):.0f} degrees")
    irises = find_irises(photo, points, per_mm)
    if irises.opening < LEAST_OPEN:
        raise Unreadable(f"lids are open by {irises.opening:.2f} of an eye's width")
    weights, found, error = table(), [], []
    for name, values in features(irises, head).items():
        found.append(sum(weights[name][key] * value for key, value in values.items()))
        spread = weights[f"{name} error"]
        error.append(sum(spread[key] * value for key, value in doubts(irises, head).items()))
    y, x = np.clip(found, -_MOST, _MOST)
    vector = np.array([x, y, np.sqrt(1.0 - x * x - y * y)])
    return GazeReading(angles_from_vector(vector), np.sqrt(error), irises)
