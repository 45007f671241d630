"""Redirecting one eye alone: what of a face is changed then."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from regaze.redirect.angles import Request
from regaze.redirect.place import Place

EYES = ("both", "left", "right")
"""The person's own; the left eye lies right in a picture that is not mirrored."""

_CORNERS = {"right": (36, 39), "left": (45, 42)}
"""Outer and inner corner among the 68 landmarks."""
_NEAR, _FAR = 0.5, 1.0
"""Distance from the eye up to which all is changed and from which nothing is, in its widths."""
_SEAM = (0.25, 0.6)
"""The same between the inner corners, as a share of the way to the other eye's."""


def one_eye(place: Place, requests: Sequence[Request], eyes: str) -> np.ndarray | None:
    """Weights (h, w) of the patch of what is changed; None where both eyes are.

    Raises:
        ValueError: another name, or one eye of a face without landmarks or whose head turns.
    """
    if eyes not in EYES:
        raise ValueError(f"eyes: expected one of {', '.join(EYES)}, found {eyes!r}")
    if eyes == "both":
        return None
    if place.landmarks is None:
        raise ValueError(
            f"{place.source}: eyes: expected a face with landmarks to redirect the {eyes} eye "
            "alone, found none"
        )
    if any(request.head is not None for request in requests):
        raise ValueError(f"{place.source}: eyes: expected both where the head turns, found {eyes}")
    height, width = place.patch.shape[:2]
    return one_eye_mask(place.landmarks, (width, height), eyes)


def one_eye_mask(landmarks: np.ndarray, patch_size: tuple[int, int], which: str) -> np.ndarray:
    """Weights (h, w) float32 of one eye with its lids: 1 around it, with a soft rim and seam.

    Args:
        landmarks: (68, 2) patch positions.
        patch_size: (width, height).
        which: ``left`` or ``right``, the person's own.
    """
    points = np.asarray(landmarks, np.float64)
    outer, inner = points[list(_CORNERS[which])]
    other = points[_CORNERS["left" if which == "right" else "right"][1]]
    spots = np.stack(np.meshgrid(*map(np.arange, patch_size)), -1).astype(np.float64)
    width = max(float(np.linalg.norm(inner - outer)), 1.0)
    along = np.clip((spots - outer) @ (inner - outer) / width**2, 0.0, 1.0)
    away = np.linalg.norm(spots - outer - along[..., None] * (inner - outer), axis=-1) / width
    across = other - inner
    way = (spots - inner) @ across / max(float(across @ across), 1e-9)
    return (_falling(away, _NEAR, _FAR) * _falling(way, *_SEAM)).astype(np.float32)


def only_there(levels: np.ndarray, shown: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pictures (N, S, S, 3) that differ from ``shown`` (S, S, 3) as far as weights (h, w) tell."""
    size = shown.shape[1::-1]
    small = cv2.resize(weights, size, interpolation=cv2.INTER_AREA)[..., None]
    return shown + small * (levels - shown)


def _falling(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """1 up to ``start``, 0 from ``end`` on, smooth in between."""
    share = np.clip((values - start) / (end - start), 0.0, 1.0)
    return 1.0 - share * share * (3.0 - 2.0 * share)
