"""Training pairs as photos of users would show them: moved, tinted, blurred, noisy, compressed.

Source and ground truth of a pair are changed in the same way, so that their difference stays that
of the two directions: noise is the same field in both, and both are compressed alike. A network is
not asked to mend photos, which would take from eyes that stay what they have of detail. Labels of
the source are perturbed as what reads them on photos errs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from regaze.angles import angles_from_vector, vector_from_angles
from regaze.training.settings import Jitter

_STREAM = 4
"""Of the random numbers of a pair; 2 is its partner and mirror."""
_TILE = 256
"""Places, across and down, from which noise is taken."""
_SOMETIMES = 0.5
"""Share of pairs that are blurred, and of those with noise, and of those that are compressed."""


class PairJitter:
    """Changes pairs; what becomes of one depends on ``seed`` and its position alone.

    Args:
        options: how much.
        seed: of the training.
    """

    def __init__(self, options: Jitter, seed: int):
        self.options, self.seed = options, seed

    def __call__(self, loaded: Mapping[str, Tensor], positions: np.ndarray) -> dict[str, Tensor]:
        """Loaded columns of pairs, changed: pictures (B, H, W, 3) uint8, gaze and head (B, 2).

        Args:
            loaded: what :meth:`regaze.redirectors.batches.BatchBuilder.load` gave for sources and
                targets.
            positions: (B,) of the pairs among all that are seen.
        """
        pictures = torch.stack([loaded["source"], loaded["target"]], 1).numpy()
        names = [f"{side}_{what}" for side in ("source", "target") for what in ("gaze", "head")]
        labels = torch.stack([loaded[name] for name in names], 1).numpy().astype(np.float64)
        for row, position in enumerate(positions):
            rng = np.random.default_rng([self.seed, _STREAM, int(position)])
            pictures[row], labels[row] = self.pair(pictures[row], labels[row], rng)
        made = torch.from_numpy(labels.astype(np.float32))
        return {
            **loaded,
            "source": torch.from_numpy(pictures[:, 0].copy()),
            "target": torch.from_numpy(pictures[:, 1].copy()),
            **{name: made[:, number].contiguous() for number, name in enumerate(names)},
        }

    def pair(
        self, pictures: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """One pair: (2, H, W, 3) uint8, source first, and (4, 2) radians of gaze and head."""
        o = self.options
        # All is drawn, whatever is used, so that one option does not change what others do.
        shift, zoom, roll = rng.normal(size=2), rng.normal(), rng.normal()
        gain, white, offset = rng.normal(), rng.normal(size=3), rng.normal()
        often, blur, noise = rng.random(3), rng.random(), rng.random()
        quality, corner = rng.random(), rng.integers(_TILE, size=2)
        misread, turned = rng.normal(size=2), rng.normal(size=2)
        roll *= np.radians(o.roll_deg)
        if o.shift or o.zoom or o.roll_deg:
            size = pictures.shape[2], pictures.shape[1]
            matrix = _similarity(size, o.shift * size[0] * shift, np.exp(o.zoom * zoom), roll)
            pictures = np.stack([_moved(one, matrix) for one in pictures])
            labels = _rolled(labels, roll)
        if o.gain or o.white or o.offset:
            slope = np.exp(o.gain * gain + o.white * white)
            pictures = _tinted(pictures, slope, o.offset * offset)
        if o.blur and often[0] < _SOMETIMES:
            width = max(o.blur * blur, 0.05)
            pictures = np.stack([cv2.GaussianBlur(one, (0, 0), width) for one in pictures])
        if o.noise and often[1] < _SOMETIMES:
            pictures = _noisy(pictures, o.noise * noise, corner)
        if o.quality < 100 and often[2] < _SOMETIMES:
            level = int(o.quality + quality * (100 - o.quality))
            pictures = np.stack([_compressed(one, level) for one in pictures])
        errors = np.zeros_like(labels)
        errors[0] = np.radians(o.source_gaze_deg) * misread
        errors[1] = errors[3] = np.radians(o.head_deg) * turned
        return pictures, labels + errors


def _similarity(size, shift, zoom: float, roll: float) -> np.ndarray:
    """(2, 3): pixels to where they go, about the middle of the picture."""
    middle = (np.array(size) - 1) / 2
    turn = zoom * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return np.column_stack([turn, middle + shift - turn @ middle])


def _moved(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    size = picture.shape[1], picture.shape[0]
    return cv2.warpAffine(
        picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _rolled(labels: np.ndarray, roll: float) -> np.ndarray:
    """Directions (..., 2) as a camera sees them whose picture was turned by ``roll``.

    x of pictures goes right and y down, as those of directions' vectors do.
    """
    vectors = vector_from_angles(labels)
    cosine, sine = np.cos(roll), np.sin(roll)
    x, y = vectors[..., 0], vectors[..., 1]
    turned = np.stack([cosine * x - sine * y, sine * x + cosine * y, vectors[..., 2]], -1)
    return angles_from_vector(turned)


def _tinted(pictures: np.ndarray, slope: np.ndarray, offset: float) -> np.ndarray:
    """Contrast and white about middle grey, then brightness."""
    levels = (np.arange(256)[:, None] - 127.5) * slope + 127.5 + offset
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None]
    return np.stack([cv2.LUT(one, table) for one in pictures])


def _noisy(pictures: np.ndarray, width: float, corner: np.ndarray) -> np.ndarray:
    height, across = pictures.shape[1:3]
    top, left = corner % (np.array(_noise(height, across).shape[:2]) - [height, across])
    field = _noise(height, across)[top : top + height, left : left + across] * np.float32(width)
    return np.stack([cv2.add(one, field, dtype=cv2.CV_8U) for one in pictures])


@cache
def _noise(height: int, width: int) -> np.ndarray:
    """Normal noise of deviation 1, float32, out of which the fields of pairs are cut."""
    shape = (height + _TILE, width + _TILE, 3)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
