"""The 68 landmarks of the iBUG scheme from the 478 points of the face mesh.

Each landmark is a weighted sum of mesh points, weights summing to one, so that landmarks move, turn
and grow with the mesh. The table is ``ibug_from_mesh.csv``, fitted by ``benchmarks/landmarks.py``.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("ibug_from_mesh.csv")
LANDMARKS, POINTS = 68, 478


@cache
def weights() -> np.ndarray:
    """Return (68, 478) float64, rows summing to one."""
    rows = np.loadtxt(TABLE, delimiter=",", skiprows=1)
    table = np.zeros((LANDMARKS, POINTS))
    table[rows[:, 0].astype(int), rows[:, 1].astype(int)] = rows[:, 2]
    table /= table.sum(axis=1, keepdims=True)
    table.setflags(write=False)
    return table


@cache
def fingerprint() -> str:
    """Return the SHA-256 of the table."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()


def ibug(points: np.ndarray) -> np.ndarray:
    """Return the landmarks (68, 2) of mesh points (478, 2)."""
    return weights() @ points
