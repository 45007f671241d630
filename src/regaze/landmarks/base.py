"""What a landmark detector takes and gives, and which of several faces is the subject's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

LANDMARKS = 68
"""Points of the iBUG-68 scheme."""

SAME_FACE = 0.1
"""Overlap (intersection over union) from which a face counts as the annotated one. Annotations
come from other detectors whose boxes are cut differently, so it is low."""

FindFaces = Callable[[np.ndarray], list[np.ndarray]]
"""Landmarks (68, 2) of every face in a photo (H, W, 3) uint8 RGB, the largest face first."""


def _nan(*shape: int):
    return lambda: np.full(shape, np.nan, np.float32)


@dataclass(frozen=True)
class Detection:
    """The subject's face in one photo.

    Attributes:
        landmarks: (68, 2) float32 x, y in pixels of the photo, the centre of the top-left pixel
            at (0, 0); NaN without a face.
        score: mean confidence of the 68 points, about 0 to 1; NaN without a face.
        box: (4,) float32 left, top, right, bottom of the face in pixels; NaN without one.
        box_score: confidence of the box, 0 to 1.
        irises: (2, 5, 2) float32 pixels, the person's right and left iris, each its centre and four
            points of its edge; NaN where the detector knows none.
        faces_found: faces seen in the photo, of whomever.
        status: "" when found, ``no_face``, or ``other_face``: faces, but none where the subject's
            is annotated.
    """

    landmarks: np.ndarray = field(default_factory=_nan(LANDMARKS, 2))
    score: float = float("nan")
    box: np.ndarray = field(default_factory=_nan(4))
    box_score: float = float("nan")
    irises: np.ndarray = field(default_factory=_nan(2, 5, 2))
    faces_found: int = 0
    status: str = "no_face"


class LandmarkDetector(Protocol):
    """Finds 68 landmarks. ``attributes`` (name, version, weights) are written into the files.

    :meth:`detect` is for data sets, whose photos show a subject, ``all_faces`` for anybody's
    photo. Results for a photo must not depend on the photos that it is handed over with.
    """

    attributes: Mapping[str, str | int | float]
    batch: int
    all_faces: FindFaces

    def detect(self, photos: Sequence[np.ndarray], boxes: np.ndarray) -> list[Detection]:
        """Return the subject's face in each photo.

        Args:
            photos: pictures (H, W, 3) uint8 R,G,B, of any sizes.
            boxes: (n, 4) left, top, width, height in pixels of the subject's face; NaN unknown.
        """
        ...


def checked_boxes(photos: Sequence[np.ndarray], boxes: np.ndarray) -> np.ndarray:
    """Return the boxes (n, 4) float64 of n photos that a detector can read.

    Raises:
        ValueError: the numbers of photos and boxes differ, or a photo is not (H, W, 3) uint8.
    """
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape != (len(photos), 4):
        raise ValueError(f"boxes: expected shape {(len(photos), 4)}, found {boxes.shape}")
    for photo in photos:
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise ValueError(f"photo: expected (H, W, 3) uint8, found {photo.shape} {photo.dtype}")
    return boxes


def overlap(boxes: np.ndarray, box: np.ndarray, smaller: bool = False) -> np.ndarray:
    """Return (m,) intersection over union of (m, 4) boxes with one (4,), left, top, right, bottom;
    over the smaller of the two, if ``smaller``; 0 where a box is empty or inside out."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, 2:4], box[2:4])
    shared = np.clip(high - low, 0.0, None).prod(axis=1)
    areas, area = _area(boxes), _area(box[None])
    whole = np.minimum(areas, area) if smaller else areas + area - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0.0)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:4] - boxes[:, :2], 0.0, None).prod(axis=1)


def choose_face(faces: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> int | None:
    """Return which of the faces found is the subject's, None when none is.

    Where the subject's face is annotated it is the face that overlaps most, and at least by
    :data:`SAME_FACE`, with the annotation. Elsewhere it is the one of the largest area times
    score, the person in front of the camera; of equals the one closest to the middle of the photo.

    Args:
        faces: (m, 5) left, top, right, bottom (pixels), score.
        box: (4,) left, top, width, height of the annotated face, NaN unknown.
        size: (width, height) of the photo.
    """
    if len(faces) == 0:
        return None
    faces = np.asarray(faces, np.float64)
    if np.isfinite(box).all() and (box[2:] > 0).all():
        shares = overlap(faces, np.array([*box[:2], *(box[:2] + box[2:])], np.float64))
        best = int(shares.argmax())
        return best if shares[best] >= SAME_FACE else None
    weight = _area(faces) * faces[:, 4]
    middle = (faces[:, :2] + faces[:, 2:4]) / 2.0 - np.asarray(size, np.float64) / 2.0
    # lexsort sorts by its last key first; the place in the photo settles exact ties for good.
    order = np.lexsort((faces[:, 0], faces[:, 1], np.hypot(*middle.T), -weight))
    return int(order[0])
