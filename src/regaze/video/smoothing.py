"""Smoothing of what is measured in each frame: with the frames after it, or with those before.

``smoothed`` is the Kalman filter with the Rauch-Tung-Striebel pass backwards (Rauch, Tung,
Striebel, AIAA Journal 1965): no lag. ``OneEuro`` is the filter of Casiez, Roussel, Vogel (CHI
2012) for what happens now: still where nothing moves, little lag where much does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Motion:
    """How something moves, and how well it is measured, in the unit of the values.

    Attributes:
        noise: standard deviation of what is measured.
        push: standard deviation of the change of speed within a second (per second, per root
            second): large for what moves by jerks.
        jump: a change beyond what is expected, in ``noise``, from which on it is a jump and no
            noise: what was before it tells nothing of what comes after; infinite: never.
    """

    noise: float
    push: float
    jump: float = np.inf


def smoothed(values: np.ndarray, times: np.ndarray, motion: Motion) -> np.ndarray:
    """Values without their noise, each estimated from those before and after it.

    Every column is a point that moves with a speed that drifts; all share the same uncertainty.

    Args:
        values: (n, k), finite.
        times: (n,) seconds, rising.
        motion: of all columns.

    Returns:
        (n, k) float64.
    """
    values = np.asarray(values, np.float64)
    parts, start = [], 0
    for cut in [*_jumps(values, motion), len(values)]:
        parts.append(_rts(values[start:cut], np.asarray(times, np.float64)[start:cut], motion))
        start = cut
    return np.concatenate(parts) if parts else values


def _jumps(values: np.ndarray, motion: Motion) -> list[int]:
    """Rows at which something is elsewhere for good: single outliers are no jumps."""
    if not np.isfinite(motion.jump) or len(values) < 4:
        return []
    far = motion.jump * motion.noise
    found = []
    for row in range(2, len(values) - 1):
        since = found[-1] if found else 0
        before = np.median(values[max(since, row - 3) : row], axis=0)
        after = np.median(values[row : row + 3], axis=0)
        here = np.linalg.norm(values[row] - values[row - 1])
        if row - since >= 2 and np.linalg.norm(after - before) > far and here > 0.5 * far:
            found.append(row)
    return found


def _rts(values: np.ndarray, times: np.ndarray, motion: Motion) -> np.ndarray:
    count = len(values)
    if count < 3:
        return values.copy()
    state = np.stack([values[0], np.zeros(values.shape[1])])
    # Nothing is known of the speed at first.
    cover = np.diag([motion.noise**2, (10.0 * motion.noise) ** 2 + motion.push**2])
    read = motion.noise**2
    steps, states, covers, told, bounds = [], [state], [cover], [state], [cover]
    for row in range(1, count):
        gap = max(float(times[row] - times[row - 1]), 1e-6)
        step = np.array([[1.0, gap], [0.0, 1.0]])
        drift = motion.push**2 * np.array([[gap**3 / 3, gap**2 / 2], [gap**2 / 2, gap]])
        told.append(step @ state)
        bounds.append(step @ cover @ step.T + drift)
        gain = bounds[-1][:, 0] / (bounds[-1][0, 0] + read)
        state = told[-1] + gain[:, None] * (values[row] - told[-1][0])
        cover = bounds[-1] - np.outer(gain, bounds[-1][0])
        steps.append(step)
        states.append(state)
        covers.append(cover)
    made = [states[-1]]
    for row in range(count - 2, -1, -1):
        back = covers[row] @ steps[row].T @ np.linalg.inv(bounds[row + 1])
        made.append(states[row] + back @ (made[-1] - told[row + 1]))
    return np.stack([one[0] for one in reversed(made)])


class OneEuro:
    """Values as they come, smoothed by those before them.

    Args:
        cutoff: hertz below which what rests is let through.
        rate: hertz that each unit of speed (per second, the mean size over all values) adds.
        speed_cutoff: hertz of the filter of the speed.
    """

    def __init__(self, cutoff: float, rate: float, speed_cutoff: float = 1.0):
        self.cutoff, self.rate, self.speed_cutoff = cutoff, rate, speed_cutoff
        self._time = self._value = self._speed = None

    def __call__(self, value: np.ndarray, time: float) -> np.ndarray:
        """The smoothed value (...) at a time in seconds."""
        value = np.asarray(value, np.float64)
        if self._value is None:
            self._time, self._value, self._speed = time, value, np.zeros_like(value)
            return value
        gap = max(time - self._time, 1e-6)
        speed = (value - self._value) / gap
        self._speed = self._speed + _share(gap, self.speed_cutoff) * (speed - self._speed)
        cutoff = self.cutoff + self.rate * float(np.abs(self._speed).mean())
        self._value = self._value + _share(gap, cutoff) * (value - self._value)
        self._time = time
        return self._value


def _share(gap: float, cutoff: float) -> float:
    """How much of a new value is taken ``gap`` seconds after the last one."""
    return 1.0 / (1.0 + 1.0 / (2.0 * np.pi * cutoff * gap))


def unrolled(vectors: np.ndarray) -> np.ndarray:
    """Rotation vectors (n, 3) of a turning thing, the next always the one near the last.

    A rotation has as many vectors as it has full turns; one of a half turn and its neighbour may
    be far from each other.
    """
    made = np.array(vectors, np.float64)
    for row in range(1, len(made)):
        angle = np.linalg.norm(made[row])
        if angle < 1e-9:
            continue
        others = made[row] * (1.0 + 2.0 * np.pi * np.arange(-2, 3)[:, None] / angle)
        made[row] = others[np.linalg.norm(others - made[row - 1], axis=1).argmin()]
    return made
