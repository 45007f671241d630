"""How far eyes are open, by the landmarks of their lids, and when they blink.

The aperture is the ratio of an eye's height and width (Soukupova and Cech, "Real-Time Eye Blink
Detection using Facial Landmarks", CVWW 2016), told in shares of the person's own open eye: eyes
differ more between people than between one that is open and one that is half closed.
"""

from __future__ import annotations

import numpy as np

EYES = (slice(36, 42), slice(42, 48))

OPEN = 80.0
"""Percentile of a person's apertures that is an open eye."""
CLOSED, WIDE = 0.45, 0.7
"""Shares of the open eye's aperture up to which it counts as closed, and from which as open.
Looking down lowers the lids to about three quarters."""
RAMP = 0.08
"""Seconds in which what is done to eyes comes and goes around a blink."""
_MEMORY = 4.0
"""Seconds by which what an open eye is like is forgotten, as eyes come and go in live videos."""


def apertures(landmarks: np.ndarray) -> np.ndarray:
    """Height over width (..., 2) of the person's right and left eye, landmarks (..., 68, 2)."""
    made = []
    for eye in EYES:
        p = np.asarray(landmarks, np.float64)[..., eye, :]
        height = np.linalg.norm(p[..., [1, 2], :] - p[..., [5, 4], :], axis=-1).mean(-1)
        width = np.linalg.norm(p[..., 0, :] - p[..., 3, :], axis=-1)
        made.append(height / np.maximum(width, 1e-6))
    return np.stack(made, -1)


def opening(share: np.ndarray) -> np.ndarray:
    """0 for a closed eye, 1 for an open one, of its aperture as a share of the open eye's."""
    share = np.clip((np.asarray(share) - CLOSED) / (WIDE - CLOSED), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def openings(landmarks: np.ndarray, times: np.ndarray) -> np.ndarray:
    """How open a person's eyes are: (n,) from 0, within a blink, to 1, with soft ramps.

    Blinks are widened by :data:`RAMP` on either side, so that all is over before lids move.

    Args:
        landmarks: (n, 68, 2) of one person.
        times: (n,) seconds, rising.
    """
    wide = apertures(landmarks)
    known = np.maximum(np.percentile(wide, OPEN, axis=0), 1e-6)
    # Both eyes blink together; of two that differ, one is badly seen.
    raw = opening((wide / known).mean(axis=1))
    away = np.abs(np.subtract.outer(times, times))
    least = np.where(away <= RAMP, raw[None], 1.0).min(axis=1)
    weights = np.exp(-0.5 * (away / (0.5 * RAMP)) ** 2)
    return np.minimum(raw, (weights @ least) / weights.sum(axis=1))


class Lids:
    """The same as it comes: what an open eye is like is learnt from the frames so far."""

    def __init__(self):
        self._open = self._time = None
        self._share = 1.0

    def __call__(self, landmarks: np.ndarray, time: float) -> float:
        """How open the eyes of landmarks (68, 2) are at a time in seconds, 0 to 1."""
        wide = apertures(landmarks)
        if self._open is None:
            self._open, self._time = wide, time
        gap = max(time - self._time, 0.0)
        self._time = time
        # Up at once, down slowly, so that a blink does not become what is usual.
        forgotten = self._open + (wide - self._open) * (1.0 - np.exp(-gap / _MEMORY))
        self._open = np.maximum(wide, np.where(wide > CLOSED * self._open, forgotten, self._open))
        now = float(opening((wide / np.maximum(self._open, 1e-6)).mean()))
        # Lids close at once; what is done to eyes comes back slowly.
        self._share = min(now, self._share + gap / RAMP) if gap else min(now, self._share)
        return self._share
