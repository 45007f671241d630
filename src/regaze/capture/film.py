"""What a cheap camera does to a finished photo: colours, blur, noise and compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SIDE = 512


@dataclass(frozen=True)
class Film:
    """One person's camera; single photos vary a little about it.

    Attributes:
        gains: (3,) of the colour channels.
        blur: standard deviation in pixels; below 0.3 there is none.
        sharpen: share of an unsharp mask.
        noise: standard deviation of middle grey, 0..255.
        quality: of the JPEG file, 1..100.
        grain: (S, S, 3) float32 noise of unit variance, from which photos take their part.
    """

    gains: np.ndarray
    blur: float
    sharpen: float
    noise: float
    quality: int
    grain: np.ndarray


def draw_film(rng: np.random.Generator, quality: int, side: int) -> Film:
    """A camera whose best JPEG quality is ``quality``; ``side`` is the long side of its photos."""
    size = max(_SIDE, side + 32)
    fine = rng.standard_normal((size, size, 3), np.float32)
    # sensors with a colour filter: noise is shared by neighbours
    grain = cv2.GaussianBlur(fine, (0, 0), float(rng.uniform(0.35, 0.8)))
    return Film(
        gains=np.exp(rng.normal(0, [0.05, 0.02, 0.06])) * np.exp(rng.normal(0, 0.10)),
        blur=float(np.clip(rng.normal(0.3, 0.35), 0, 1.0)) * side / 320,
        sharpen=float(rng.choice([0.0, 0.0, 1.0]) * rng.uniform(0.2, 0.7)),
        noise=float(min(6.0, np.exp(rng.normal(np.log(2.0), 0.5)))),
        quality=int(min(quality, rng.integers(45, 97))),
        grain=grain / grain.std(),
    )


def exposed(film: Film, pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A photo (H, W, 3) uint8 as the camera takes it, and its JPEG quality.

    ``rng`` is of the photo: blur, noise and quality vary by a fifth from one to the next.
    """
    blur, noise, quality = np.array([film.blur, film.noise, film.quality]) * rng.uniform(
        0.8, 1.2, 3
    )
    h, w = pixels.shape[:2]
    y, x = rng.integers(0, np.array(film.grain.shape[:2]) - [h, w] + 1)
    out = cv2.LUT(pixels, _curves(film.gains))
    if blur > 0.3:
        out = cv2.GaussianBlur(out, (0, 0), blur)
    if film.sharpen:
        soft = cv2.GaussianBlur(out, (0, 0), 1.0)
        out = cv2.addWeighted(out, 1 + film.sharpen, soft, -film.sharpen, 0)
    part = film.grain[y : y + h, x : x + w]
    out = cv2.scaleAdd(part, float(noise), out.astype(np.float32))
    return cv2.convertScaleAbs(np.maximum(out, 0)), int(np.clip(quality, 40, 97))


def _curves(gains: np.ndarray) -> np.ndarray:
    """Tables (256, 1, 3) of the channels; the sRGB curve is about a power of 2.2."""
    curve = 255 * (np.arange(256)[:, None] / 255) * gains ** (1 / 2.2)
    # a shoulder instead of a cut above 230
    over = np.maximum(curve - 230, 0)
    return np.clip(curve - over + 25 * np.tanh(over / 25), 0, 255).astype(np.uint8)[:, None]
