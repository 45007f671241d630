"""How strongly eyes of a video are redirected, and where what is changed meets what is not."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from regaze.angles import angular_error
from regaze.redirect.one_eye import one_eye_mask

_FADE = 0.15
"""Share of the effect below which pictures fade into the source, besides turning less."""
_RING = (0.03, 0.6)
"""Weights between which a pixel counts as of the seam."""


@dataclass(frozen=True)
class Ramp:
    """From the full effect to none, by how far the gaze or the head is turned from the camera.

    Attributes:
        full_below: degrees up to which everything is done.
        none_beyond: degrees from which nothing is.
    """

    full_below: float = 10.0
    none_beyond: float = 35.0

    def __post_init__(self):
        if not 0.0 <= self.full_below < self.none_beyond <= 180.0:
            raise ValueError(
                "full-below, none-beyond: expected degrees 0 <= full-below < none-beyond <= 180, "
                f"found {self.full_below:g} and {self.none_beyond:g}"
            )

    def share(self, gaze: np.ndarray, head: np.ndarray) -> float:
        """How much is done, 0 to 1, of a gaze and a head (2,) in radians: the farther one counts.

        A gaze that is not known (NaN) does not count.
        """
        ahead = np.zeros(2)
        turned = [angular_error(one, ahead) for one in (gaze, head) if np.isfinite(one).all()]
        far = max((float(one) for one in turned), default=0.0)
        share = (self.none_beyond - far) / (self.none_beyond - self.full_below)
        share = min(max(share, 0.0), 1.0)
        return share * share * (3.0 - 2.0 * share)


def fading(share: float) -> float:
    """Opacity of what is pasted for a share of the effect: it is gone before the last of it is."""
    return min(share / _FADE, 1.0)


def eye_areas(landmarks: np.ndarray, patch_size: tuple[int, int], eyes: str) -> list[np.ndarray]:
    """Weights (h, w) float32 of the eyes of a patch that are changed, each with its lids.

    Args:
        landmarks: (68, 2) patch positions.
        patch_size: (width, height).
        eyes: one of :data:`regaze.redirect.one_eye.EYES`.
    """
    wanted = ("right", "left") if eyes == "both" else (eyes,)
    return [one_eye_mask(landmarks, patch_size, which) for which in wanted]


def level_seams(levels: np.ndarray, shown: np.ndarray, areas: list[np.ndarray]) -> np.ndarray:
    """Pictures whose light is that of the source along the seam, in every frame alike.

    What a model changes of the light around the eyes differs from frame to frame, and would be
    seen as flicker. It is the median of the change along each area's soft rim, and is taken off.

    Args:
        levels: (S, S, 3) float32 grey levels that the model made.
        shown: (S, S, 3) float32, the source.
        areas: weights (h, w) of the patch.

    Returns:
        (S, S, 3) float32.
    """
    size = shown.shape[1::-1]
    small = [cv2.resize(area, size, interpolation=cv2.INTER_AREA) for area in areas]
    total, shift = np.zeros(size[::-1], np.float32), np.zeros_like(shown)
    for area in small:
        ring = (area > _RING[0]) & (area < _RING[1])
        if ring.any():
            shift += area[..., None] * np.median((levels - shown)[ring], axis=0)
        total += area
    return levels - shift / np.maximum(total, 1e-6)[..., None]
