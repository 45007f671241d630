"""Tidying of masks that a face parser made, as HeadNeRF and its gaze branch prepare theirs.

The steps are those of ``CrisHY1995/headnerf`` and ``colincqian/GazeNeRF``.
"""

from __future__ import annotations

import cv2
import numpy as np

FACE, HAIR = 1, 2
"""Labels of :func:`without_fringes`; 0 is all else."""
ROUNDS, EYE_KERNEL, SIDE = 7, 20, 512
"""How often fringes are cut, and pixels of the ellipse that eyes are dilated by, in pictures whose
side is the last; in smaller ones it is as much less."""

_TIMES = 3


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part (H, W) bool of a mask (H, W); pixels touch by corners too."""
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros(mask.shape, bool)
    return numbers == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def in_pixels(count: int, side: int) -> int:
    """How much ``count`` at :data:`SIDE` is in pictures of another side, at least 1."""
    return max(1, round(count * side / SIDE))


def without_fringes(labels: np.ndarray, rounds: int = ROUNDS) -> np.ndarray:
    """Labels (H, W) uint8 of one head without stray parts and single hairs.

    The largest part is kept; again and again what hair has more of the background than of the face
    beside it becomes background; then the largest part is kept again.

    Args:
        labels: :data:`FACE`, :data:`HAIR` and 0.
        rounds: how many pixels of hair are cut at most.
    """
    made = np.where(largest_part(labels != 0), labels, 0)
    weight = np.zeros(256)
    weight[[FACE, HAIR]] = 2, 1
    for _ in range(rounds):
        values = np.pad(weight[made], 1)
        beside = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
        made = np.where((made == HAIR) & (beside < 4 * values[1:-1, 1:-1]), 0, made)
    return np.where(largest_part(made != 0), made, 0).astype(np.uint8)


def dilated_eyes(eyes: np.ndarray, kernel: int = EYE_KERNEL) -> np.ndarray:
    """A mask of eyes (H, W) uint8 of 0 and 1, grown three times by an ellipse of ``kernel`` px."""
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (kernel, kernel))
    return cv2.dilate(eyes, shape, iterations=_TIMES)
