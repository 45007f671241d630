"""Lids of the appearance ``varied``: how far they follow the eyes, and single lashes on them."""

from __future__ import annotations

import numpy as np

from regaze.capture.style import Lashes
from regaze.capture.subject import expression_rows

SIDES = ("left", "right")
_LEAST_OPEN = 1.0
"""Millimetres of an eye that lids which follow it leave open."""


def upper_margin(template: np.ndarray, side: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Which lid vertices (n,) are on the margin of an upper lid: above the line of the corners.

    Args:
        template: (n, 3) of a head whose eyes are open; ``side`` (n,) and ``edge`` (n,) as below.
    """
    upper = np.zeros(len(side), bool)
    for number in range(len(SIDES)):
        rows = np.flatnonzero(edge & (side == number))
        x, y = template[rows, :2].T
        ends = [np.argmin(x), np.argmax(x)]
        upper[rows] = y > np.interp(x, x[ends], y[ends])
    return upper


class LidGain:
    """Blink codes that make upper lids follow looks up and down by one share of their angle.

    The head's pose correctives let lids follow by about 0.73 downwards and 0.51 upwards; what a
    person's lids do more or less is an expression, so that codes tell the whole of it.

    Args:
        model: the head model.
        rows: (n,) vertices of the lids; ``drive`` (n, 3, 36) their pose correctives in mm;
            ``rest`` (n, 3) where they are at rest, mm.
        side: (n,) 0 for the subject's left eye, 1 for the right.
        edge: (n,) whether a vertex is on a lid's margin; ``upper`` (n,) on the upper one's.
        centres, radius: of the eyeballs, mm.
        gain: share of the gaze's pitch that the upper lid follows.
    """

    def __init__(self, model, rows, drive, rest, side, edge, upper, centres, radius, gain):
        first = model.n_shape_total
        self.gain, self.radius = gain, radius
        self.count = model.shapedirs.shape[2] - first
        still = np.abs(drive).sum((1, 2)) == 0
        self.codes, self.shift, self.middle, self.travel = [], [], [], []
        self.lowest = []
        for number, word in enumerate(SIDES):
            factors = expression_rows(model.meta, f"eye_blink_{word}")
            code = np.zeros(self.count)
            code[list(factors)] = list(factors.values())
            shift = 1000 * model.shapedirs[rows][:, :, first:].astype(np.float64) @ code
            # what stands still in every gaze is traced once per head pose
            shift[still | (side != number)] = 0
            mine = upper & (side == number)
            middle = np.flatnonzero(mine)[np.argmin(shift[mine, 1])]
            self.codes.append(code)
            self.shift.append(shift)
            self.middle.append(middle)
            self.travel.append(-shift[middle, 1])
            below = edge & ~upper & (side == number)
            self.lowest.append(min(0.0, rest[below, 1].min() + _LEAST_OPEN - rest[middle, 1]))

    def follow(self, axes: np.ndarray, moved: np.ndarray, rest: np.ndarray):
        """Move lid vertices ``moved`` (n, 3), in place, for eye axes (2, 3); codes (count,)."""
        codes = np.zeros(self.count)
        for number in range(2):
            pitch = np.arcsin(np.clip(axes[number, 1], -1, 1))
            done = moved[self.middle[number], 1] - rest[self.middle[number], 1]
            amount = (done - self.gain * pitch * self.radius) / max(self.travel[number], 1.0)
            # an eye never closes by itself, nor opens farther than a lid can be lifted
            room = (done - self.lowest[number]) / max(self.travel[number], 1.0)
            amount = float(min(np.clip(amount, -0.3, 0.6), room))
            moved += amount * self.shift[number]
            codes += amount * self.codes[number]
        return codes


class LashLine:
    """Where single lashes stand on the lid margins, and what they look like.

    Args:
        lashes: length, width, curl and seed.
        rest: (n, 3) lid vertices at rest, mm; ``side`` (n,); ``edge`` (n,) on a margin, ``upper``
            (n,) on the upper one.
        centres: (2, 3) of the eyeballs, mm.
    """

    UPPER, LOWER = 36, 18

    def __init__(self, lashes: Lashes, rest, side, edge, upper, centres):
        rng = np.random.default_rng([lashes.seed, 3])
        first, second, share, sign, along = [], [], [], [], []
        for number, outward in ((0, 1.0), (1, -1.0)):
            rows = np.flatnonzero(edge & (side == number))
            x = rest[rows, 0]
            ends = np.isin(rows, rows[[np.argmin(x), np.argmax(x)]])
            for lid, count in ((1.0, self.UPPER), (-1.0, self.LOWER)):
                mine = rows[ends | (upper[rows] == (lid > 0))]
                mine = mine[np.argsort(rest[mine, 0])]
                place = np.linspace(0.10, 0.97, count) + rng.normal(0, 0.006, count)
                place = place if outward > 0 else 1 - place
                spot = np.clip(place, 0, 0.999) * (len(mine) - 1)
                first.append(mine[spot.astype(int)])
                second.append(mine[spot.astype(int) + 1])
                share.append(spot % 1)
                sign.append(np.full(count, lid))
                along.append(outward * (2 * np.linspace(0.10, 0.97, count) - 1))
        self.first, self.second = np.concatenate(first), np.concatenate(second)
        self.share, self.sign = np.concatenate(share)[:, None], np.concatenate(sign)
        self.along = np.concatenate(along)
        self.centre = centres[side[self.first]]
        count = len(self.sign)
        upper = self.sign > 0
        # longest in the outer half, a third as long at the inner corner
        out = self.along * np.sign(self.centre[:, 0])
        full = lashes.length * np.where(upper, 1.0, 0.5) * (0.72 + 0.28 * out)
        self.length = (full * rng.uniform(0.75, 1.1, count))[:, None]
        self.curl = (lashes.curl * rng.uniform(0.7, 1.3, count))[:, None]
        self.fan = 0.45 * self.along + rng.normal(0, 0.14, count)
        self.width = 0.5 * lashes.width * np.where(upper, 1.0, 0.75)
        self.cover = lashes.cover
        self.apart = np.where(upper, 27.0 / self.UPPER, 27.0 / self.LOWER)
        i = 5 * np.arange(count)[:, None]
        parts = [i + triangle for triangle in ([0, 1, 2], [1, 3, 2], [2, 3, 4])]
        self.faces = np.concatenate(parts)

    def drawn(self, lids: np.ndarray, finest: float) -> tuple[np.ndarray, np.ndarray]:
        """Lashes on lid vertices as posed, mm, and what each vertex covers of what is behind it.

        Five vertices a lash: two at the root, two half way, the tip. One thinner than ``finest``
        is drawn as broad as that, and covers as much less: rays would hit it here and there.
        """
        root = lids[self.first] + self.share * (lids[self.second] - lids[self.first])
        out = root - self.centre
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        up = np.array([0.0, 1.0, 0.0]) - out * out[:, 1:2]
        up /= np.linalg.norm(up, axis=1, keepdims=True)
        up *= self.sign[:, None]
        side = np.zeros_like(root)
        side[:, 0] = self.fan

        def at(t):
            # they leave the lid outwards and curl away from the eye
            return root + self.length * (t * (0.8 * out + 0.25 * side) + self.curl * t * t * up)

        half = np.zeros_like(root)
        half[:, 0] = np.maximum(self.width, 0.5 * finest)
        # the nearest one stands for those that it hides
        hidden = np.maximum(2 * half[:, 0] / self.apart, 1.0)
        cover = np.minimum(self.cover * self.width / half[:, 0] * hidden, 0.95)
        middle = at(0.55)
        strip = [root - half, root + half, middle - 0.8 * half, middle + 0.8 * half, at(1.0)]
        return np.stack(strip, 1).reshape(-1, 3), np.outer(cover, [1, 1, 0.9, 0.9, 0.2]).ravel()
