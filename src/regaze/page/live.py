"""What a page needs to run a model by itself: graphs, the source, and how to put pictures back."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import cv2
import numpy as np

from regaze.images import reduce_patches
from regaze.page.atlas import eyes_of
from regaze.page.faces import Shown
from regaze.redirect.paste import eye_mask, face_mask, window_mask
from regaze.redirect.run import Redirection

_FIXED = 64
"""Steps per model pixel in which places are told."""
_FAR = 32767


def packed(values: np.ndarray | bytes) -> str:
    """Bytes, gzipped, in Base64."""
    content = values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes()
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


def live_face(shown: Shown, engine: Redirection, *, source_gaze=None) -> dict[str, Any]:
    """What a page is told of a face.

    ``source`` is packed float32 (3, S, S) in [-1, 1], ``gaze`` and ``head`` are radians. ``places``
    are packed int16 (2, h, w): for each pixel of ``box`` of the shown picture where in the model's
    picture it lies, in 1/64 pixels, x before y; ``weight`` and ``eyes`` packed uint8 (h, w): how
    much of the model's change it takes, and how far it lies between the lids. ``gain`` is the
    model's contrast over the picture's.

    Args:
        shown: the face.
        engine: the model, and the estimator of the source's gaze.
        source_gaze: pitch, yaw in degrees instead of labels or an estimate.

    Raises:
        ValueError: the gaze of the source is unknown.
    """
    place, size = shown.place, engine.size_px
    gaze, _ = engine.source_gaze(place, source_gaze)
    box, places, weight, eyes = _placed(shown, size)
    colours = place.colours
    return {
        "source": packed(reduce_patches(place.shown[None], size).numpy().astype("<f4")),
        "gaze": [float(one) for one in gaze],
        "head": [float(one) for one in place.head],
        "box": box,
        "places": packed(places),
        "weight": packed(weight),
        "eyes": packed(eyes),
        "gain": 1.0 if colours is None else float(np.mean(colours.gain)),
        "between": list(eyes_of(shown)),
    }


def _placed(shown: Shown, size_px: int):
    """Box, places, weights and lids of :func:`live_face`."""
    place = shown.place
    width, height = place.patch.shape[1], place.patch.shape[0]
    lids = np.zeros((height, width), np.float32)
    if place.photo is None or place.view is None:
        box = [0, 0, width, height]
        mask = np.ones((height, width), np.float32)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)
    else:
        left, top, right, bottom = place.view.box((place.photo.shape[1], place.photo.shape[0]))
        box = [left, top, right - left, bottom - top]
        mask = window_mask((width, height))
        if place.landmarks is not None:
            mask = face_mask(place.landmarks, (width, height))
            lids = eye_mask(place.landmarks, (width, height))
        pixels = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), -1)
        grid = place.view.to_patch(pixels.reshape(-1, 2)).reshape(pixels.shape)
    weight, eyes = (_levels(one, grid) for one in (mask, lids))
    ratio = np.array([width, height]) / size_px
    inner = ((np.nan_to_num(grid, nan=-1e4) + 0.5) / ratio - 0.5) * _FIXED
    places = np.clip(np.rint(inner), -_FAR, _FAR).astype("<i2").transpose(2, 0, 1)
    return box, places, weight, eyes


def _levels(mask: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Weights (h, w) uint8 of 0 to 255 at places of a patch, nothing outside of it."""
    places = np.nan_to_num(grid, nan=-1e4).astype(np.float32)
    found = cv2.remap(mask, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.clip(np.rint(found * 255), 0, 255).astype(np.uint8)
