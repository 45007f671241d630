"""Where the irises of a face are: the rim of a disc that moves with both eyes, and geometry of it.

The face mesh places eye corners and lids well, but moves an iris up and down by a third of what it
does. So the irises are looked for again, in the photo: two discs of one size, as far apart as in
the mesh, are shifted together until the most of their rims, between the lids, is where dark turns
to bright (after the integro-differential operator of Daugman, "High Confidence Visual Recognition
of Persons by a Test of Statistical Independence", PAMI 1993, along the arcs that lids leave).
Brightness is the lowest of the three channels, in which skin is dark and the white of the eye not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CORNERS = ((33, 133), (362, 263))
"""Mesh points of the corners of the person's right and left eye, left in the picture first."""
CENTRES = (468, 473)
LIDS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
)
"""Mesh points around the opening of the person's right and left eye."""
_UPPER, _LOWER = (159, 386), (145, 374)

_WIDTH, _HEIGHT, _PER_MM = 136, 80, 4.0
"""Pixels of the upright picture of an eye, and pixels per mm in it."""
_RADII = (5.3, 5.7, 6.1)
"""Of irises, mm."""
_REACH, _STEP = np.array([2.0, 3.6]), np.array([0.5, 0.4])
"""How far from the mesh's irises is looked, across and down, in which steps; mm."""
_ARC = np.radians(np.arange(-40.0, 61.0, 10.0))
"""Of the rim, to either side, from above the horizontal to below: what is between lids mostly."""
_RIM = 0.6
"""Half of how far inside and outside of the rim are apart, mm."""
_BLUR = 1.2
_MOST_STEP, _LEAST_STEP = 60.0, -20.0
_TEMPERATURE = 3.0
"""Grey levels of the mean step by which a place is e times as likely."""


@dataclass(frozen=True)
class Irises:
    """The irises of a face, in mm at the face's distance, across (right) and down.

    Attributes:
        mesh: (2,) where the mesh has the centres from the middles between the eye corners, mean of
            both eyes, in the direction of the corners.
        disc: (2,) the same of the discs.
        upper, lower: how far down the middles of the lids are from there.
        doubt: how exactly the discs' place up and down is known, a standard deviation.
        step: mean step of brightness at the rim, grey levels.
        width: of the eyes between the corners.
    """

    mesh: np.ndarray
    disc: np.ndarray
    upper: float
    lower: float
    doubt: float
    step: float
    width: float

    @property
    def opening(self) -> float:
        """Between the lids, in widths of the eye."""
        return (self.lower - self.upper) / self.width


def find_irises(photo: np.ndarray, points: np.ndarray, per_mm: float) -> Irises:
    """Find the irises of a face.

    Args:
        photo: (H, W, 3) uint8.
        points: (478, 2) mesh points in pixels of the photo.
        per_mm: pixels of the photo per mm at the face.
    """
    across, down = (np.arange(-r, r + s / 2, s) for r, s in zip(_REACH, _STEP, strict=True))
    total, mesh, upper, lower, width = 0.0, [], [], [], []
    for eye, (first, last) in enumerate(CORNERS):
        turn = upright(points[first], points[last], per_mm)
        places = transform(turn, points)
        middle = (places[first] + places[last]) / 2.0
        centre = places[CENTRES[eye]]
        area = _picture(photo, turn, per_mm)
        lids = places[list(LIDS[eye])]
        total = total + _steps(area, lids, centre, across * _PER_MM, down * _PER_MM)
        mesh.append((centre - middle) / _PER_MM)
        upper.append((places[_UPPER[eye]] - middle)[1] / _PER_MM)
        lower.append((places[_LOWER[eye]] - middle)[1] / _PER_MM)
        width.append(np.linalg.norm(places[last] - places[first]) / _PER_MM)
    steps = total / len(CORNERS)
    likely = np.exp((steps - steps.max()) / _TEMPERATURE)
    likely /= likely.sum()
    shift = np.array([(likely.sum(axis=0) * across).sum(), (likely.sum(axis=1) * down).sum()])
    doubt = np.sqrt((likely.sum(axis=1) * (down - shift[1]) ** 2).sum())
    mesh = np.mean(mesh, axis=0)
    lids = float(np.mean(upper)), float(np.mean(lower))
    return Irises(
        mesh, mesh + shift, *lids, float(doubt), float(steps.max()), float(np.mean(width))
    )


def upright(first: np.ndarray, last: np.ndarray, per_mm: float) -> np.ndarray:
    """(2, 3) from pixels of an eye's upright picture to those of the photo; corners (2,) given."""
    along = (last - first) / max(np.linalg.norm(last - first), 1e-9) * (per_mm / _PER_MM)
    turn = np.column_stack([along, [-along[1], along[0]]])
    middle = np.array([(_WIDTH - 1) / 2.0, (_HEIGHT - 1) / 2.0])
    return np.column_stack([turn, (first + last) / 2.0 - turn @ middle])


def transform(turn: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) of the photo in the upright picture."""
    return (points - turn[:, 2]) @ np.linalg.inv(turn[:, :2]).T


def _picture(photo: np.ndarray, turn: np.ndarray, per_mm: float) -> np.ndarray:
    """The upright picture of an eye (h, w) float32: the lowest channel."""
    corners = turn @ np.array([[0, _WIDTH, 0, _WIDTH], [0, 0, _HEIGHT, _HEIGHT], [1, 1, 1, 1]])
    size = np.array(photo.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=1)).astype(int) - 2, 0, size - 1)
    high = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 3, low + 1, size)
    area = photo[low[1] : high[1], low[0] : high[0]].min(axis=2).astype(np.float32)
    if per_mm > 1.3 * _PER_MM:
        area = cv2.GaussianBlur(area, (0, 0), 0.4 * per_mm / _PER_MM)
    inner = turn - np.array([[0, 0, low[0]], [0, 0, low[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        area, inner, (_WIDTH, _HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def _steps(area, lids, centre, across, down) -> np.ndarray:
    """Mean step of brightness (down, across) over the rim of discs shifted so; the best radius."""
    bright = cv2.GaussianBlur(area, (0, 0), _BLUR)
    open_ = np.zeros(area.shape, np.uint8)
    cv2.fillPoly(open_, [np.rint(lids * 16).astype(np.int32)], 255, shift=4)
    # The mesh's lids stay a little behind real ones.
    open_ = cv2.dilate(open_, np.ones((5, 3), np.uint8)).astype(np.float32) / 255.0
    open_ = cv2.GaussianBlur(open_, (0, 0), 2.0)
    angles = np.concatenate([_ARC, np.pi - _ARC])
    best = np.full((len(down), len(across)), -np.inf, np.float32)

    def sampled(picture, radius):
        x = (centre[0] + across)[None, :, None] + radius * np.cos(angles) + 0 * down[:, None, None]
        y = (centre[1] + down)[:, None, None] + radius * np.sin(angles) + 0 * across[:, None]
        places = [one.reshape(len(down), -1).astype(np.float32) for one in (x, y)]
        found = cv2.remap(picture, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found.reshape(len(down), len(across), len(angles))

    for radius in _RADII:
        rim = (radius + _RIM) * _PER_MM
        step = sampled(bright, rim) - sampled(bright, (radius - _RIM) * _PER_MM)
        step = np.clip(step, _LEAST_STEP, _MOST_STEP) * sampled(open_, rim)
        best = np.maximum(best, step.mean(axis=2))
    return best
