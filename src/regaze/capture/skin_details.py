"""Wrinkles and eye shadow of the appearance ``varied``, over the maps of :mod:`skin_maps`."""

from __future__ import annotations

import numpy as np

from regaze.capture.skin_maps import chart, masks
from regaze.capture.style import Style
from regaze.capture.surface import EYE, gauss, smoothstep


def paint_details(texture: np.ndarray, style: Style) -> np.ndarray:
    """Paint what a style has on a person's skin; ``texture`` (S, S, 4) is changed in place."""
    if style.creases is None and not style.shadow_cover:
        return texture
    size = len(texture)
    c, face = chart(size), masks(size)["face"]
    rows = slice(*_rows(c.y, -45, 60))
    x, y, face = c.x[rows], c.y[rows], face[rows]
    part, a = texture[rows], np.abs(x)
    if style.creases is not None:
        dark = _lines(style.creases, x, a, y) * face
        part[..., :3] *= 1 - dark[..., None] * np.array([0.85, 1.0, 1.0], np.float32)
    if style.shadow_cover:
        # from the lashes to half way up to the brow, and fading towards the nose
        lid = smoothstep(y, 15.0, 5.0) * smoothstep(y, -2.5, 1.0)
        lid = lid * smoothstep(a, 13, 24) * smoothstep(a, 52, 42) * face
        cover = (style.shadow_cover * lid)[..., None]
        part[..., :3] += cover * (style.shadow - part[..., :3])
    return texture


def _rows(y: np.ndarray, low: float, high: float) -> tuple[int, int]:
    inside = np.flatnonzero(((y > low) & (y < high)).any(1))
    return inside[0], inside[-1] + 1


def _lines(creases, x, a, y):
    """Darkening (h, w) by bags, crow's feet and frown lines at frontal points, mm."""
    bag = np.exp(-0.5 * ((y + 10.5 - 0.012 * (a - EYE[0]) ** 2) / 1.0) ** 2)
    bag = bag * smoothstep(a, 14, 22) * smoothstep(a, 46, 36)
    fans = 0.5 + 0.5 * np.cos(1.3 * (y + 1) + 0.10 * (a - 46) * np.sign(y + 1))
    feet = gauss(a, y, 52, 0, 4.5, 7) * fans**2
    frown = np.exp(-0.5 * ((a - 6.5 - 0.06 * (y - 18)) / 1.0) ** 2) * gauss(y, 0, 20, 0, 6, 1)
    return creases.bags * bag + creases.feet * feet + creases.frown * frown
