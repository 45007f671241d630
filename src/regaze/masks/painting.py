"""Classes of the eye region, painted from landmarks: skin, eyes, brows, nose and irises.

Of 478 points of the face mesh every part is drawn as the hull of its points, as
``naranjuelo/GC-GAN`` (``data/segment_face_db_*.py``, ``data/mediapipe_aux.py``) does; of 68
landmarks irises are put where the gaze turns them. Where the parts of a patch are known
(:mod:`regaze.masks`), skin and eyes are those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from regaze.angles import vector_from_angles
from regaze.masks import NUMBER

CLASSES = ("background", "skin", "eyes", "eyebrows", "nose", "iris", "mouth")
"""By number. With six classes the mouth counts to the skin."""
PALETTE = np.array(
    [
        (0, 0, 0), (239, 234, 90), (44, 105, 154), (4, 139, 168), (13, 179, 158), (131, 227, 119),
        (185, 231, 105),
    ],
    np.uint8,
)  # fmt: skip
"""Colours on display, RGB."""
Painting = Literal["priority", "compat"]

_MESH = {
    "right_eye": (7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246),
    "left_eye": (249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466),
    "right_iris": (469, 470, 471, 472),
    "left_iris": (474, 475, 476, 477),
    "right_brow": (46, 52, 53, 55, 63, 65, 66, 70, 105, 107),
    "left_brow": (276, 282, 283, 285, 293, 295, 296, 300, 334, 336),
    "mouth": (
        0, 17, 37, 39, 40, 61, 84, 91, 146, 181, 185, 267, 269, 270, 291, 314, 321, 375, 405, 409,
    ),
    "nose": (1, 2, 64, 98, 102, 189, 294, 327, 331, 417),
}  # fmt: skip
_IBUG = {
    "right_eye": range(36, 42),
    "left_eye": range(42, 48),
    "right_brow": range(17, 22),
    "left_brow": range(22, 27),
    "mouth": range(48, 68),
    "nose": range(27, 36),
}
_SIDES = ("right", "left")
_CODES = {"eye": 2, "mouth": 7, "brow": 3, "nose": 4}
_IRIS_CODE = 6
_SUMS = {6: 1, 8: 5, 7: 6}

EYE_MM, LIMBUS_MM = 30.0, 5.9
"""Of adults: between the corners of an eye, and the radius of its iris."""
_DEPTH_MM, _BEHIND_MM = 10.4, 2.6
"""From an eye's centre of rotation to its iris, and to the line between its corners."""
_FOREHEAD = 1.1
"""How far the forehead reaches above the brows, in distances from brows to the nose's root."""


@dataclass(frozen=True)
class Parts:
    """Outlines of a face's parts in a picture.

    Attributes:
        face: (n,2) points whose hull is the face, pixels x, y.
        outlines: (n,2) points by name: ``right_eye``, ``left_brow``, ``nose``, ``mouth`` and so on.
        irises: (2,3) centre x, y and radius of the person's right and left iris.
        corners: (2,2,2) corners of the right and of the left eye.
    """

    face: np.ndarray
    outlines: Mapping[str, np.ndarray]
    irises: np.ndarray
    corners: np.ndarray


def parts_of_mesh(points: np.ndarray, size: tuple[int, int]) -> Parts:
    """Parts of 478 points of a face mesh.

    Args:
        points: (478,2) x, y as shares of the picture's sides.
        size: (width, height) of the picture.

    Raises:
        ValueError: another number of points, or a part has none inside of the picture.
    """
    if points.shape != (478, 2):
        raise ValueError(f"points: expected (478, 2), found {points.shape}")
    inside = ((points >= 0) & (points <= 1)).all(1)
    seen = np.minimum(np.floor(points * size), np.array(size) - 1).astype(np.int32)
    outlines = {}
    for name, numbers in _MESH.items():
        outlines[name] = seen[[one for one in numbers if inside[one]]]
        if not len(outlines[name]) and name not in ("mouth", "nose"):
            raise ValueError(f"points: {name}: expected some in the picture, found none")
    circles = [cv2.minEnclosingCircle(outlines[f"{side}_iris"]) for side in _SIDES]
    irises = np.array([(*centre, radius) for centre, radius in circles])
    # In the order of numbers the second and third point of an eye are its corners.
    corners = np.stack([outlines[f"{side}_eye"][1:3] for side in _SIDES])
    own = {name: one for name, one in outlines.items() if not name.endswith("iris")}
    return Parts(seen[inside], own, irises, corners)


def parts_of_landmarks(points: np.ndarray, gaze: np.ndarray, head: np.ndarray) -> Parts:
    """Parts of the 68 iBUG landmarks of somebody who looks somewhere.

    Args:
        points: (68,2) pixels.
        gaze, head: (2,) radians.
    """
    outlines = {name: points[list(numbers)] for name, numbers in _IBUG.items()}
    brows = points[17:27]
    up = brows - _FOREHEAD * (points[27] - brows.mean(0))
    corners = np.stack([points[[36, 39]], points[[42, 45]]])
    looking, facing = (-vector_from_angles(np.float64(one))[:2] for one in (gaze, head))
    wide = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1).mean()
    scale = wide / (EYE_MM * max(0.5, np.cos(head[1])))
    centres = corners.mean(1) + scale * (_DEPTH_MM * looking - _BEHIND_MM * facing)
    irises = np.column_stack([centres, np.full(2, scale * LIMBUS_MM)])
    return Parts(np.concatenate([points, up]), outlines, irises, corners)


def _filled(points: np.ndarray, size: tuple[int, int], line: bool = False) -> np.ndarray:
    """(H,W) uint8 of 1 within the hull of points."""
    layer = np.zeros(size[::-1], np.uint8)
    if len(points):
        hull = cv2.convexHull(np.round(points).astype(np.int32))
        cv2.drawContours(layer, [hull], -1, 1, -1)
        if line:
            cv2.drawContours(layer, [hull], -1, 1, 1)
    return layer


def _discs(irises: np.ndarray, size: tuple[int, int], shrink: int = 0) -> np.ndarray:
    layer = np.zeros(size[::-1], np.uint8)
    for x, y, radius in irises:
        cv2.circle(layer, (int(x), int(y)), max(0, int(radius - shrink)), 1, -1)
    return layer


def painted(
    parts: Parts,
    size: tuple[int, int],
    classes: int = 6,
    painting: Painting = "priority",
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Class numbers (H,W) uint8 of a picture.

    Args:
        parts: of its face.
        size: (width, height).
        classes: 6 or 7; with seven the mouth is one.
        painting: ``priority``: skin, nose, brows, eyes and irises clipped to eyes, the later over
            the earlier. ``compat``: the sums of the reference, in which a brow over an eye is an
            iris and other overlaps are numbers beyond the classes; the mouth is 6.
        known: (H,W) uint8 part numbers of :data:`regaze.masks.NAMES`, which then decide what is
            skin and eye, and what is in front of them.
    """
    if painting == "compat":
        return _summed(parts, size)
    made = np.zeros(size[::-1], np.uint8)
    skin = _filled(parts.face, size) > 0 if known is None else np.isin(known, _SKIN)
    made[skin] = 1
    layers = {"nose": 4, **({"mouth": 6} if classes > 6 else {}), "brow": 3}
    for name, number in layers.items():
        for part, outline in parts.outlines.items():
            if part.endswith(name):
                made[skin & (_filled(outline, size) > 0)] = number
    if known is None:
        eyes = sum(_filled(parts.outlines[f"{side}_eye"], size) for side in _SIDES) > 0
    else:
        eyes = np.isin(known, _EYES)
    made[eyes] = 2
    made[eyes & (_discs(parts.irises, size) > 0)] = 5
    return made


_EYES = [NUMBER[name] for name in ("left_eye", "right_eye")]
_SKIN = [NUMBER[name] for name in ("skin", "glasses", "lips", "mouth", "brows", "nose")] + _EYES


def _summed(parts: Parts, size: tuple[int, int]) -> np.ndarray:
    total = np.zeros(size[::-1], np.int32)
    for part, outline in parts.outlines.items():
        code = _CODES[part.rpartition("_")[2]]
        total += code * _filled(outline, size).astype(np.int32)
    total += _IRIS_CODE * _discs(parts.irises, size, shrink=1).astype(np.int32)
    labels = total.copy()
    for found, label in _SUMS.items():
        labels[total == found] = label
    face = _filled(parts.face, size, line=True) > 0
    outside = np.where(labels > 0, 2 * labels - 1, 0)
    return np.where(face, np.maximum(labels, 1), outside).astype(np.uint8)


def coloured(labels: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 RGB of class numbers (...)."""
    return PALETTE[np.minimum(labels, len(PALETTE) - 1)]


# The eye region.

_EYE_BOX, _EYE_SHARE = 1.7, 0.35
"""Width of an eye's box in that of the eye, and of the box in the side of the region."""


@dataclass(frozen=True)
class Region:
    """Where the eye region of a face is in its picture.

    Attributes:
        box: (4,) left, top, right, bottom in pixels, of the square whose upper half is shown.
        side: of that square before it was clipped to the picture.
        eyes: (2,2) centres x, y of both eyes.
    """

    box: np.ndarray
    side: float
    eyes: np.ndarray


def eye_region(parts: Parts, size: tuple[int, int], painting: Painting = "priority") -> Region:
    """The region of a face: a square around the point between eyes and mouth.

    With ``compat`` numbers are cut to integers and the square to the picture, as in the reference.
    """
    corners = parts.corners.astype(np.float64)
    middles = corners.mean(1)
    if painting == "priority":
        wide = np.abs(corners[:, 0, 0] - corners[:, 1, 0])
        side = float(_EYE_BOX * wide.max() / _EYE_SHARE)
        mouth = parts.outlines["mouth"]
        centre = (middles.mean(0) + (mouth if len(mouth) else middles).mean(0)) / 2
        box = np.concatenate([centre - side / 2, centre + side / 2])
        return Region(box, side, middles)
    eyes = np.floor(0.5 * corners.sum(1) + 0.5).astype(int)
    tall = []
    for middle, (first, second) in zip(middles, corners, strict=True):
        half = int(0.5 * _EYE_BOX * abs(first[0] - second[0]))
        ends = np.trunc([middle[1] - half, middle[1] + half])
        tall.append(float(np.diff(np.clip(ends, 0, size[1]))[0]))
    side = max(tall) / _EYE_SHARE
    between = np.trunc(eyes.mean(0))
    mouth = parts.outlines["mouth"]
    lower = mouth.mean(0) if len(mouth) else between
    centre = np.trunc((between + lower) / 2)
    box = np.trunc(np.concatenate([centre - side / 2, centre + side / 2]))
    return Region(np.clip(box, 0, [*size, *size]), side, eyes)


def band(side: int) -> tuple[int, int]:
    """First row, and first row after it, of a picture of this side that show the region's half."""
    return round(side * 62 / 250), round(side * 187 / 250)


def strip_picture(picture: np.ndarray, region: Region, side: int = 250) -> np.ndarray:
    """The upper half of a region (S,S[,3]) in the middle of a black picture, as in the reference.

    The nearest pixels are taken, of labels and colours alike.
    """
    left, top, right, bottom = region.box.astype(int)
    cut = picture[top:bottom, left:right]
    cut = cv2.resize(cut, (side, side), interpolation=cv2.INTER_NEAREST)
    made = np.zeros_like(cut)
    first, last = band(side)
    made[first:last] = cut[: last - first]
    return made


def shown_box(region: Region, size: tuple[int, int]) -> np.ndarray:
    """(4,) left, top, right, bottom, as shares of a picture's sides, of what a whole strip shows.

    A strip's picture has the region's upper half in its middle rows, so it begins above the region.
    """
    left, top, right, bottom = region.box
    up = (bottom - top) * 62 / 250
    return np.array([left, top - up, right, bottom - up]) / [*size, *size]


def shown_part(box: np.ndarray) -> np.ndarray:
    """Of a box of :func:`shown_box` the rows that a strip shows anything in."""
    left, top, right, bottom = box
    tall = bottom - top
    return np.array([left, top + tall * 62 / 250, right, top + tall * 187 / 250])


def place_of(parts: Parts, size: tuple[int, int], crop: str) -> np.ndarray:
    """(4,) left, top, right, bottom, as shares of a picture's sides, of a crop of a face.

    Args:
        parts: of the face.
        size: (width, height) of the picture.
        crop: ``eye_strip``, its shown half ``eyes``, or ``face``, which is the whole picture.
    """
    if crop == "face":
        return np.array([0.0, 0.0, 1.0, 1.0])
    box = shown_box(eye_region(parts, size), size)
    return box if crop == "eye_strip" else shown_part(box)


def canvas_of(patch: np.ndarray, side: int = 256, canvas: int = 500) -> np.ndarray:
    """A patch of ETH-XGaze in the middle of a black canvas, as the reference finds faces in it."""
    patch = cv2.resize(patch, (side, side), interpolation=cv2.INTER_LINEAR)
    made = np.zeros((canvas, canvas, *patch.shape[2:]), patch.dtype)
    start = (canvas - side) // 2
    made[start : start + side, start : start + side] = patch
    return made
