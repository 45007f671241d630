"""Faces in photos of any size by BlazeFace, the short-range detector of MediaPipe.

The network sees 128 x 128 pixels and answers, for each of 896 anchors, a score, a box and six
points: right eye, left eye (the person's own), nose, mouth, right ear, left ear. Layout of the
anchors, weighted suppression and thresholds: ``google/mediapipe``
(``face_detection_short_range.pbtxt``). It finds faces of an eighth of the picture and more; here
smaller ones are found in overlapping tiles of the photo.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from regaze.landmarks.base import overlap

SIDE = 128
POINTS = 6
LEVELS = 3
"""Sizes of tiles: the whole photo, and its halves and quarters."""

_GRIDS = ((16, 2), (8, 6))
"""Cells a side, and anchors in each cell."""
_SAME = 0.3
"""Intersection over union from which boxes are of one face."""
_INSIDE = 0.6
"""Share of the smaller box inside the other from which boxes of two tiles are of one face."""
_LEAST_TILE = 96
"""Pixels. A face in a smaller tile would be too small to redirect."""
_CLIP = 80.0

FindOne = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(128, 128, 3) float32 R,G,B in [-1, 1] -> (896,) logits and (896, 16) boxes and points in
pixels relative to anchors."""


def anchors() -> np.ndarray:
    """Return the centres (896, 2) x, y of the anchors, as shares of the picture's side."""
    rows = []
    for cells, count in _GRIDS:
        middles = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        rows.append(np.repeat(grid, count, axis=0))
    return np.concatenate(rows)


_ANCHORS = anchors()


def decode(logits: np.ndarray, raw: np.ndarray, least: float) -> np.ndarray:
    """Return faces (m, 17) of a network's answer, best first.

    Args:
        logits: (896,) of the scores.
        raw: (896, 16) centre, size and six points in pixels; positions relative to the anchors.
        least: score below which a box is none.

    Returns:
        left, top, right, bottom, six points x, y, and the score; positions are shares of the
        picture's side.
    """
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -_CLIP, _CLIP)))
    kept = np.flatnonzero(scores >= least)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    values = raw[kept].astype(np.float64).reshape(-1, 2 + POINTS, 2) / SIDE
    centre = values[:, 0] + _ANCHORS[kept]
    half = values[:, 1] / 2.0
    points = values[:, 2:] + _ANCHORS[kept][:, None]
    rows = [centre - half, centre + half, points.reshape(-1, 2 * POINTS), scores[kept, None]]
    rows = np.concatenate(rows, axis=1)
    return rows[(half > 0.0).all(axis=1)]


def merge(faces: np.ndarray) -> np.ndarray:
    """Return one face for each group of overlapping ones: their mean weighted by score.

    Args:
        faces: (m, 17), best first; a group is the best face left and all that overlap it. It
            keeps the best one's score.
    """
    merged = []
    while len(faces):
        same = overlap(faces, faces[0, :4]) > _SAME
        same[0] = True
        weights = faces[same, -1]
        row = (faces[same] * weights[:, None]).sum(axis=0) / weights.sum()
        merged.append([*row[:-1], faces[0, -1]])
        faces = faces[~same]
    return np.array(merged).reshape(-1, 5 + 2 * POINTS)


def tiles(width: int, height: int, level: int) -> list[tuple[int, int, int]]:
    """Return left, top and side of square tiles, in whole pixels.

    Level 0 is the square around the whole photo. The tiles of a further level have half the side
    of the last one's and overlap by half, so that what is half as large lies whole in one of
    them; there are none where they would be too small.
    """
    longer = max(width, height)
    side = -(-longer // 2**level)
    if level == 0:
        return [((width - longer) // 2, (height - longer) // 2, longer)]
    if side < _LEAST_TILE:
        return []
    return [(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [(length - side) // 2]
    count = -(-(length - side) // max(side // 2, 1)) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def find(photo: np.ndarray, network: FindOne, level: int, least: float) -> np.ndarray:
    """Return the faces (m, 17) that are seen in the tiles of one level, in pixels of the photo.

    Faces that a tile's border cuts are left out, unless it is the photo's: another tile has them.

    Args:
        photo: (H, W, 3) uint8 R,G,B.
        network: the detector.
        level: see :func:`tiles`.
        least: least score.

    Returns:
        As :func:`decode`; the centre of the top-left pixel is at (0, 0).
    """
    height, width = photo.shape[:2]
    found = [np.zeros((0, 5 + 2 * POINTS))]
    for left, top, side in tiles(width, height, level):
        rows = merge(decode(*network(_picture(photo, left, top, side)), least))
        rows[:, :-1] = rows[:, :-1] * side + np.tile([left, top], 2 + POINTS)
        low, high = np.array([left, top]), np.array([left, top]) + side
        cut = (rows[:, :2] < low) & (low > 0) | (rows[:, 2:4] > high) & (high < (width, height))
        found.append(rows[~cut.any(axis=1)])
    rows = np.concatenate(found)
    rows[:, :-1] -= 0.5
    return distinct(rows)


def distinct(faces: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Return the faces that are not the same as a better one, or as one of ``known``."""
    kept = [] if known is None else list(known)
    before = len(kept)
    for face in faces[np.argsort(-faces[:, -1], kind="stable")]:
        if not kept or overlap(np.array(kept), face[:4], smaller=True).max() < _INSIDE:
            kept.append(face)
    return np.array(kept[before:]).reshape(-1, faces.shape[1])


def _picture(photo: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """Return a tile as the network wants it; black outside the photo."""
    height, width = photo.shape[:2]
    x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(top, 0), min(top + side, height)
    share = SIDE / side
    size = (max(round((x1 - x0) * share), 1), max(round((y1 - y0) * share), 1))
    way = cv2.INTER_AREA if share < 1.0 else cv2.INTER_LINEAR
    part = cv2.resize(photo[y0:y1, x0:x1], size, interpolation=way)
    picture = np.full((SIDE, SIDE, 3), -1.0, np.float32)
    x = min(round((x0 - left) * share), SIDE - size[0])
    y = min(round((y0 - top) * share), SIDE - size[1])
    picture[y : y + size[1], x : x + size[0]] = part.astype(np.float32) / 127.5 - 1.0
    return picture
