"""Colour maps of the skin in the head's texture chart, painted in template coordinates.

Because features are painted where the template has them, they follow the identity and expression
codes of a person with the mesh. Colours are linear light, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from regaze.capture import parts, surface, template
from regaze.capture.surface import gauss, smoothstep


def linear(srgb) -> np.ndarray:
    """sRGB values 0..255 to linear light 0..1."""
    c = np.asarray(srgb, np.float64) / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


@dataclass(frozen=True)
class Chart:
    """Template coordinates of every texel (S, S): plane ``u, v`` and frontal ``x, y`` in mm."""

    u: np.ndarray
    v: np.ndarray
    x: np.ndarray
    y: np.ndarray


@lru_cache(maxsize=4)
def chart(size: int) -> Chart:
    """Texel coordinates of a chart of ``size`` texels; row 0 is v = 0 (the neck's end)."""
    grid = (np.arange(size) + 0.5) / size
    uu, vv = np.meshgrid(grid, grid)
    u, v = template.chart_to_plane(np.stack([uu, vv], -1))
    xyz = surface.base(u.ravel(), v.ravel())
    x, y = (xyz[:, i].reshape(size, size).astype(np.float32) for i in (0, 1))
    return Chart(u.astype(np.float32), v.astype(np.float32), x, y)


@lru_cache(maxsize=4)
def noise(size: int) -> dict[str, np.ndarray]:
    """Tileable noise maps (S, S) of unit variance: grain, pores, blotches, clouds, strands."""
    rng = np.random.default_rng([size, 77])

    def smooth(sx, sy):
        # wrap the border so that the maps may be rolled by any offset
        white = rng.normal(size=(size, size)).astype(np.float32)
        pad = int(3 * max(sx, sy)) + 1
        wide = np.pad(white, pad, mode="wrap")
        wide = cv2.GaussianBlur(wide, (0, 0), sigmaX=sx, sigmaY=sy)
        out = wide[pad:-pad, pad:-pad]
        return (out - out.mean()) / out.std()

    unit = size / 512
    # brow hairs lie along the brow, rising outward on both sides
    flow = smooth(7 * unit, 0.9)
    rows, cols = np.mgrid[0:size, 0:size]
    lean = (rows - 0.35 * np.abs(cols - size / 2)).astype(int) % size
    return {
        "brow": flow[lean, cols],
        "grain": smooth(0.6, 0.6),
        "pores": smooth(1.6 * unit + 0.2, 1.6 * unit + 0.2),
        "blotch": smooth(7 * unit, 7 * unit),
        "cloud": smooth(28 * unit, 28 * unit),
        "strand": smooth(0.8, 9 * unit),
        "lock": smooth(4 * unit, 26 * unit),
        "curl": smooth(3.2 * unit, 3.2 * unit),
    }


@lru_cache(maxsize=4)
def masks(size: int) -> dict[str, np.ndarray]:
    """Soft masks 0..1 (S, S) of the template's features."""
    c = chart(size)
    x, y = c.x, c.y
    a = np.abs(x)
    face = smoothstep(np.abs(c.u), 118, 100) * smoothstep(c.v, -128, -114)
    my = surface.MOUTH_Y
    lip = np.clip(1 - (a / (surface.MOUTH_HALF + 0.8)) ** 2.4, 0, None)
    bow = 1.0 * gauss(a, 0, 5, 0, 3.0, 1) - 0.9 * gauss(a, 0, 0, 0, 2.2, 1)
    upper = smoothstep(y, my + (7.0 + bow) * lip + 0.8, my + (6.2 + bow) * lip - 0.8)
    lower = smoothstep(y, my - 10.8 * np.sqrt(lip) - 0.8, my - 9.8 * np.sqrt(lip) + 0.8)
    lips = upper * lower * smoothstep(a, surface.MOUTH_HALF + 1.2, surface.MOUTH_HALF - 1.5)
    half = surface.MOUTH_HALF
    seam = np.exp(-0.5 * ((y - my) / 0.75) ** 2) * smoothstep(a, half + 2, half - 2)
    nostril = gauss(a, y, 6.6, -49.3, 2.6, 1.5) + 0.35 * gauss(a, y, 18, -44, 1.5, 4.0)
    jaw = smoothstep(c.v, -48 + 18 * smoothstep(np.abs(c.u), 60, 100), -74)
    jaw = jaw * smoothstep(np.abs(c.u), 112, 96)
    side = smoothstep(np.abs(c.u), 70, 92) * smoothstep(np.abs(c.u), 112, 100)
    sideburn = side * smoothstep(c.v, -80, -50) * smoothstep(c.v, 20, -5)
    droop = 0.012 * a**2
    moustache = smoothstep(y, -54.5 - droop, -58.5 - droop)
    moustache = moustache * smoothstep(y, -69.0 - 0.9 * droop, -65.5 - 0.9 * droop)
    moustache = moustache * smoothstep(a, 30, 22) * (0.75 + 0.25 * smoothstep(a, 0, 4))
    chin = smoothstep(y, -84, -90) * smoothstep(a, 33, 22) * smoothstep(c.v, -128, -116)
    flanks = gauss(a, y, 29, -76, 4, 12)
    goatee = np.maximum(chin, np.maximum(moustache, flanks))
    line = 40 + 22 * smoothstep(np.abs(c.u), 20, 90)
    beard = jaw * smoothstep(a, 18, 34) * smoothstep(c.v, -30 - line * 0.2, -62)
    beard = np.maximum(np.maximum(beard, sideburn), goatee) * (1 - lips)
    beard = beard * smoothstep(c.v, -142, -122)
    return {
        "face": face.astype(np.float32),
        "lips": (lips * face).astype(np.float32),
        "seam": (seam * face).astype(np.float32),
        "nostril": (np.clip(nostril, 0, 1) * face).astype(np.float32),
        "blush": (gauss(a, y, 40, -30, 14, 12) * face).astype(np.float32),
        "nose": (gauss(x, y, 0, -38, 13, 11) * face).astype(np.float32),
        "socket": (gauss(a, y, 30, -7, 16, 9) * face).astype(np.float32),
        "inner": (gauss(a, y, 15, -4, 6, 8) * face).astype(np.float32),
        "forehead": (gauss(x, y, 0, 45, 40, 18) * face).astype(np.float32),
        "beard": beard.astype(np.float32),
        "goatee": (goatee * (1 - lips)).astype(np.float32),
        "moustache": (moustache * (1 - lips)).astype(np.float32),
        "sideburn": sideburn.astype(np.float32),
    }


def vertex_mask(name: str, plane: np.ndarray, size: int) -> np.ndarray:
    """A mask of :func:`masks` at skin points given by plane coordinates (n, 2) mm: (n,)."""
    spot = template.plane_to_chart(plane[:, 0], plane[:, 1]) * size
    col, row = np.clip(spot.astype(int), 0, size - 1).T
    return masks(size)[name][row, col]


def brow_mask(c: Chart, look, strands: np.ndarray) -> np.ndarray:
    """Eyebrows (S, S) 0..1 with hairs, for a :class:`regaze.capture.subject.Look`."""
    a = np.abs(c.x)
    start, end = 12.5 - look.brow_join, 49.0
    t = np.clip((a - start) / (end - start), 0, 1)
    arch = look.brow_height + 15.8 + look.brow_arch * np.sin(np.pi * t**1.3) - 4.5 * t**3
    thick = look.brow_thick * (1.0 - 0.72 * t**1.7) * smoothstep(a, start - 2.5, start + 5)
    inside = smoothstep(np.abs(c.y - arch), thick + 0.9, thick * 0.45)
    inside = inside * smoothstep(a, end + 1, end - 5) * smoothstep(a, start - 3, start + 1)
    inside = inside * (np.abs(c.u) < 100)
    return np.clip(inside * (0.78 + 0.26 * strands), 0, 1)


def paint(look, rng: np.random.Generator, size: int) -> np.ndarray:
    """Paint the skin of a person: linear RGB and gloss, (S, S, 4) float32.

    Args:
        look: a :class:`regaze.capture.subject.Look`.
        rng: consumed only here, so that the map depends on (seed, person).
        size: side of the map in texels.
    """
    c, m = chart(size), masks(size)
    bank = noise(size)
    shift = rng.integers(0, size, (8, 2))

    def field(name, which):
        return np.roll(bank[name], tuple(shift[which]), (0, 1))

    tone = look.skin
    coarse = 0.030 * field("blotch", 1) + 0.028 * field("pores", 2)
    spread = 1 + 0.035 * field("cloud", 0) + look.roughness * coarse
    out = np.empty((size, size, 4), np.float32)
    out[..., :3] = tone * spread[..., None]
    red = look.redness * (0.9 * m["blush"] + 0.8 * m["nose"] + 0.25 * field("cloud", 3) * m["face"])
    out[..., 0] *= 1 + 0.10 * red
    out[..., 1] *= 1 - 0.10 * red
    out[..., 2] *= 1 - 0.09 * red
    shade = 1 - look.under_eye * (0.8 * m["socket"] + 0.5 * m["inner"])
    out[..., :3] *= shade[..., None]
    out[..., 2] *= 1 - 0.3 * look.under_eye * m["socket"] * 0.3
    out[..., :3] *= (1 + 0.05 * m["forehead"])[..., None]
    if look.age > 0:
        lines = sum(
            np.exp(-0.5 * ((c.y - height - 0.0022 * c.x**2 + 0.8 * field("blotch", 4)) / 0.8) ** 2)
            for height in (27.0, 34.0, 41.5)
        ) * smoothstep(np.abs(c.x), 46, 18)
        feet = gauss(np.abs(c.x), c.y, 53, -1, 4, 7) * (0.5 + 0.5 * np.sin(1.5 * c.y + 0.4 * c.x))
        fold = 19 + 13.5 * np.clip((-42 - c.y) / 32, 0, 1)
        crease = np.exp(-0.5 * ((np.abs(c.x) - fold) / 1.3) ** 2) * smoothstep(c.y, -80, -68)
        crease = crease * smoothstep(c.y, -38, -48)
        worn = look.age * m["face"] * (0.20 * lines + 0.18 * feet + 0.22 * crease)
        out[..., :3] *= 1 - worn[..., None] * np.array([0.8, 1.0, 1.0], np.float32)
    if look.freckles > 0:
        spots = smoothstep(field("pores", 4), 1.15, 1.9) * look.freckles
        spots = spots * np.clip(m["blush"] + m["nose"] + 0.3 * m["forehead"], 0, 1)
        out[..., :3] *= 1 - spots[..., None] * np.array([0.30, 0.45, 0.5], np.float32)
    lips = m["lips"] * look.lip_strength
    wrinkle = 1 + 0.05 * field("strand", 5)
    out[..., :3] += lips[..., None] * (look.lips * wrinkle[..., None] - out[..., :3])
    out[..., :3] *= 1 - 0.62 * m["seam"][..., None]
    out[..., :3] *= 1 - 0.80 * m["nostril"][..., None] * np.array([0.8, 0.95, 1.0], np.float32)
    hairs = field("strand", 6)
    if look.beard_shadow > 0:
        even = 0.95 if look.beard in ("moustache", "full", "goatee") else 0.75
        rough = 0.3 if look.beard in ("none", "stubble") else 0.1
        grain = np.clip(even + rough * (field("grain", 7) + 0.7 * field("pores", 1)), 0, 1.2)
        cover = np.clip(look.beard_shadow * m[look.beard_kind] * grain, 0, 0.96)
        target = look.beard_colour * np.clip(1 + 0.25 * hairs, 0.4, 1.6)[..., None]
        out[..., :3] += cover[..., None] * (target - out[..., :3])
    brows = brow_mask(c, look, 0.8 * bank["brow"] + 0.4 * field("pores", 5))
    cover = brows * look.brow_strength
    out[..., :3] += cover[..., None] * (look.brow_colour - out[..., :3])
    shine = 1 + 0.5 * m["nose"] + 0.4 * m["forehead"] - 0.4 * brows
    out[..., 3] = look.gloss * shine + 0.9 * lips * look.lip_gloss
    if look.hair != "bald":
        line, _ = parts.hairline(look, c.u, c.v)
        # strands reach past the hairline by different lengths
        reach = c.v - line + 3.0 * hairs + 1.5 * field("pores", 0)
        fade = 14.0 if look.hair in ("buzz", "short") else 7.0
        cover = 0.94 * smoothstep(reach, -2.0, fade)
        target = look.hair_colour * np.clip(0.9 + 0.22 * hairs, 0.4, 1.5)[..., None]
        out[..., :3] += cover[..., None] * (target - out[..., :3])
    # small charts: ears, linings, mouth
    row = int(np.ceil(size * template.SKIN_CHART))
    out[row:, :, :3] = tone * np.array([1.02, 0.86, 0.84], np.float32)
    lining = slice(int(size * 2 * 0.142), None)
    out[row:, lining, :3] = tone * 0.45 + np.array([0.30, 0.11, 0.10], np.float32)
    bag = slice(int(size * 4 * 0.142), int(size * 5 * 0.142))
    out[row:, bag, :3] = np.array([0.055, 0.012, 0.012], np.float32)
    np.clip(out, 0.004, 1.0, out=out)
    return out


def texture_basis(size: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean albedo (R, R, 3) and directions (R, R, 3, count), float16, RGB in 0..1 (not linear).

    The first directions are tones of skin, the next ones redness and lips, the rest smooth
    fields; all have unit standard deviation for codes of unit variance. Row 0 is v = 1, as in
    FLAME's texture files (the maps painted for the capture have row 0 at v = 0).
    """
    m = masks(size)
    mean = np.ones((size, size, 3)) * np.array([0.72, 0.55, 0.47])
    mean = mean + m["lips"][..., None] * np.array([-0.05, -0.16, -0.12])
    mean *= 1 - 0.5 * (m["seam"] + m["nostril"]).clip(0, 1)[..., None]
    directions = np.zeros((size, size, 3, count))
    tones = np.array([[0.14, 0.13, 0.12], [0.03, 0.0, -0.03], [0.0, 0.015, 0.0]])
    directions[..., : min(3, count)] = tones.T[None, None, :, : min(3, count)]
    named = [m["lips"], m["blush"], m["beard"], m["socket"], m["nose"], m["forehead"]]
    for index, mask in enumerate(named[: max(0, count - 3)]):
        colour = np.array([-0.03, -0.05, -0.05])
        directions[..., 3 + index] = mask[..., None] * colour
    rng = np.random.default_rng([seed, 3])
    for index in range(3 + len(named), count):
        white = rng.normal(size=(size, size, 3)).astype(np.float32)
        soft = cv2.GaussianBlur(white, (0, 0), sigmaX=size / 20)
        directions[..., index] = 0.02 * soft / soft.std()
    return mean[::-1].astype(np.float16), directions[::-1].astype(np.float16)


def chart_masks(size: int) -> tuple[np.ndarray, np.ndarray]:
    """FLAME's face mask and face-with-eyes mask of the chart, (size, size) float32 in 0..1.

    Row 0 is v = 1.
    """
    c = chart(size)
    whole = smoothstep(np.abs(c.u), 112, 92) * smoothstep(c.v, -122, -108) * smoothstep(c.v, 78, 62)
    rows = (np.arange(size) + 0.5) / size < template.SKIN_CHART
    whole = whole * rows[:, None]
    eye = gauss(np.abs(c.x), c.y, surface.EYE[0], 0, 9, 4)
    whole, eye = whole[::-1], eye[::-1]
    return (whole * (1 - smoothstep(eye, 0.3, 0.7))).astype("f4"), whole.astype("f4")
