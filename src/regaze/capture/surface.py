"""The procedural face: semantic sizes in, positions of template points out.

A skin point has two plane coordinates ``(U, V)`` in millimetres: ``U`` runs around the head (0 in
front, +-``U_MAX`` at the back), ``V`` from the neck over chin and forehead to the crown. Horizontal
rings of the head are tilted superellipses given by a table of front, side and back profiles; the
face itself is a sum of smooth bumps on top; the lids lie on a sphere about each eye's centre.

Frame: the head frame of FLAME (+x the subject's left, +y up, +z out of the face) in millimetres,
origin about the mean of the four eye corners. Sizes follow the prototype's notes and common
anthropometric means (Farkas, Anthropometry of the Head and Face, 1994).
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

RADIUS = 12.0
"""Radius of an eyeball, mm."""
EYE = np.array([31.6, 0.0])
"""Template position (x, y) of the subject's left eye centre, mm."""
ALMOND = (13.4, 4.6, 5.1)
"""Half width and the upper and lower half heights of the lid opening, mm."""
RINGS = (-0.15, 0.0, 0.3, 0.65, 1.05, 1.5, 2.2)
"""Offsets of the rings of points around an opening; 0 is the lid margin, -0.15 its inner edge."""
RING_POINTS = 40
TURN = 73.0
U_MAX = np.pi * TURN
V_TOP, V_BOTTOM = 150.0, -200.0
MOUTH_Y = -73.0
MOUTH_HALF = 24.5

# V: front y z, side y half-width z, back y z
_PROFILE = np.array(
    [
        [150, 120, -76, 120, 0.0, -78, 120, -80],
        [142, 119, -56, 119, 17, -78, 119, -102],
        [130, 114.5, -35, 114, 31, -78, 112, -126],
        [110, 102, -12, 102, 49.5, -78, 97, -155],
        [85, 82, 4.0, 83, 62.5, -78, 75, -173],
        [55, 55, 11.5, 56, 70, -77, 45, -182],
        [30, 30, 13, 30, 73, -76, 18, -186],
        [10, 10, 10, 8, 73, -76, -5, -184],
        [-10, -10, 8, -12, 72.0, -75, -25, -180],
        [-30, -30, 7, -30, 69.5, -74, -45, -172],
        [-50, -50, 9.5, -46, 64, -73, -62, -162],
        [-70, -70, 10.5, -58, 58.5, -72, -78, -152],
        [-90, -90, 8.0, -68, 54, -71, -92, -145],
        [-105, -104, 1, -75, 51.5, -71, -104, -141],
        [-115, -111.5, -14, -81, 50, -74, -114, -138],
        [-125, -115, -33, -92, 50, -79, -125, -135],
        [-140, -124, -48, -112, 50, -85, -140, -133],
        [-165, -150, -53, -146, 53, -87, -165, -134],
        [-200, -192, -57, -192, 60, -88, -200, -140],
    ]
)[::-1]
_CURVES = PchipInterpolator(_PROFILE[:, 0], _PROFILE[:, 1:], axis=0)

_NOSE = PchipInterpolator(
    [-66, -58, -53, -50, -46, -42, -36, -30, -20, -10, 0, 8, 20, 28],
    [0.0, 1.0, 4.0, 8.0, 14.0, 18.5, 21.5, 21.0, 16.5, 11.5, 7.5, 6.0, 2.0, 0.0],
)
_NOSE_WIDTH = PchipInterpolator(
    [-66, -50, -42, -34, -22, -8, 8, 28], [7, 8, 8.6, 8.4, 7.0, 5.6, 5.4, 9]
)

# name: (standard deviation, clipping range is 2 of them)
SIZES = {
    "scale": 0.03, "head_width": 0.04, "head_depth": 0.04, "face_length": 0.05,
    "jaw_width": 0.055, "jaw_angle": 3.0, "chin_length": 3.0, "chin_width": 0.18, "chin_out": 2.5,
    "cheekbone": 1.8, "cheek": 2.2, "hollow": 1.5, "forehead_out": 2.5, "temple": 1.5,
    "brow_ridge": 1.7, "brow_height": 1.2,
    "eye_apart": 1.4, "eye_width": 0.055, "eye_height": 0.11, "eye_tilt": 0.045,
    "eye_depth": 0.9, "hood": 0.5, "bag": 0.5,
    "nose_length": 0.055, "nose_out": 0.12, "nose_width": 0.13, "bridge_out": 1.6,
    "bridge_width": 0.16, "hump": 1.1, "tip_up": 1.6, "ala_width": 0.13, "tip_round": 1.2,
    "mouth_width": 0.08, "mouth_y": 1.5, "lip_upper": 1.0, "lip_lower": 1.1, "lip_height": 0.16,
    "muzzle": 1.8, "philtrum": 0.6, "nasolabial": 0.8,
    "ear_size": 0.07, "ear_out": 0.12, "neck_width": 0.07,
}  # fmt: skip
"""Standard deviations of the semantic sizes that persons differ by (mm, or a fraction)."""

FEMININE = {
    "scale": -0.025, "jaw_width": -0.045, "chin_width": -0.10, "chin_length": -2.0,
    "chin_out": -1.0, "brow_ridge": -1.5, "brow_height": 0.8, "eye_height": 0.09,
    "eye_width": 0.02, "nose_out": -0.10, "nose_width": -0.07, "nose_length": -0.03,
    "tip_up": 1.0, "ala_width": -0.07, "lip_upper": 0.6, "lip_lower": 0.6, "lip_height": 0.10,
    "neck_width": -0.08, "cheek": 0.8, "forehead_out": 1.5, "muzzle": 0.5,
}  # fmt: skip
"""Half the mean difference between feminine and masculine heads, in the sizes of ``SIZES``."""


def smoothstep(x, low, high):
    """Hermite step from 0 at ``low`` to 1 at ``high`` (either order)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def gauss(x, y, cx, cy, sx, sy):
    """Axis-aligned Gaussian of height 1."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))


def base(u, v, p=None):
    """Head surface without face features: positions (n, 3) for plane points ``u, v`` (n,)."""
    g = (p or {}).get
    yf, zf, ys, w, zs, yb, zb = _CURVES(np.clip(v, V_BOTTOM, V_TOP)).T
    jaw = smoothstep(v, -35, -85) * smoothstep(v, -150, -118)
    skull = smoothstep(v, -120, -20)
    neck = smoothstep(v, -112, -140)
    w = w * (1 + g("jaw_width", 0) * jaw + g("head_width", 0) * skull + g("neck_width", 0) * neck)
    w = w + g("temple", 0) * gauss(v, 0, 28, 0, 16, 1)
    ys = ys - g("jaw_angle", 0) * jaw
    zf = zf + g("forehead_out", 0) * gauss(v, 0, 70, 0, 28, 1)
    depth = 1 + g("head_depth", 0)
    zb = zs + (zb - zs) * depth
    theta = np.clip(u / TURN, -np.pi, np.pi)
    c, s = np.cos(theta), np.sin(theta)
    front = c > 0
    # the jaw is narrower in front than an ellipse, the cheeks are a little squarer
    power = 0.86 + 0.22 * smoothstep(v, -55, -105) * smoothstep(v, -160, -120)
    shape = np.abs(c) ** np.where(front, power, 0.95)
    x = w * s
    z = np.where(front, zs + (zf - zs) * shape, zs + (zb - zs) * shape)
    lift = np.abs(c) ** np.where(front, 1.15, 1.0)
    y = np.where(front, ys + (yf - ys) * lift, ys + (yb - ys) * lift)
    return np.stack([x, y, z], -1)


def inverse(x, y):
    """Plane coordinates of frontal points of the template: ``base(u, v)[:2] == x, y``."""
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    u, v = x.copy(), y.copy()
    for _ in range(60):
        now = base(u.ravel(), v.ravel())
        u = u + 0.8 * (x - now[:, 0].reshape(x.shape))
        v = v + 0.8 * (y - now[:, 1].reshape(x.shape))
    return u, v


def almond(t, k):
    """Offsets (dx toward the temple, dy) from the eye centre of ring ``k`` at angles ``t``."""
    half, up, down = ALMOND
    grow = max(k, 0.0)
    exponent = 1.32 - 0.32 * min(grow / 1.2, 1.0)
    s = np.sin(t)
    # rings grow less toward the temple, where the face turns away
    dx = (half + np.where(np.cos(t) > 0, 3.6, 5.0) * k) * np.cos(t)
    # the inner corner is drawn out, the outer one a little higher
    height = np.where(s > 0, up + 6.2 * k, down + 5.2 * k)
    dy = np.sign(s) * height * np.abs(s) ** exponent
    peak = np.where(s > 0, 0.06, -0.05) * np.abs(s)
    return dx - 13.0 * peak * np.cos(t) ** 2 * 0.3, dy + 0.05 * dx


def bumps(x, y, p=None):
    """Height in mm along z of the face's features over frontal template points (x, y)."""
    g = (p or {}).get
    a = np.abs(x)
    h = (
        (4.2 + g("brow_ridge", 0))
        * np.exp(-0.5 * ((y - 15.5 - 0.04 * a) / 6.0) ** 2)
        * (smoothstep(a, 4, 16) * smoothstep(a, 58, 40))
    )
    h += (2.2 + 0.6 * g("brow_ridge", 0)) * gauss(x, y, 0, 19, 9, 8)
    h += 4.5 * gauss(a, y, 50, 0, 7, 12)
    h += -4.5 * gauss(a, y, 30, 2, 14, 9) - 5.5 * gauss(a, y, 16.5, 3, 4.5, 8)
    # nose: ridge, tip, wings, their creases, nostrils
    length, out = 1 + g("nose_length", 0), 1 + g("nose_out", 0)
    yn = np.where(y < 8, 8 + (y - 8) / length, y)
    ridge = _NOSE(np.clip(yn, -66, 28)) * out
    ridge = ridge + g("bridge_out", 0) * gauss(yn, 0, -2, 0, 10, 1)
    ridge = ridge + g("hump", 0) * gauss(yn, 0, -14, 0, 6, 1)
    grow = g("bridge_width", 0) * smoothstep(yn, -26, -6)
    wide = _NOSE_WIDTH(np.clip(yn, -66, 28)) * (
        1 + grow + g("nose_width", 0) * smoothstep(yn, -12, -34)
    )
    h += ridge * np.exp(-0.5 * (a / wide) ** 2.0)
    tip_y = -36.5 + g("tip_up", 0)
    h += (3.6 + g("tip_round", 0)) * gauss(x, yn, 0, tip_y, 6.5, 6.0)
    ala = 13.0 * (1 + g("ala_width", 0) + 0.5 * g("nose_width", 0))
    h += 8.0 * out * gauss(a, yn, ala, -42.0, 4.4, 5.6)
    h += -2.4 * gauss(a, yn, ala + 6.0, -43, 2.4, 5.5)
    h += -3.0 * gauss(a, yn, 6.8, -49.5, 2.8, 2.0)
    # mouth
    my = MOUTH_Y
    h += (8.0 + g("muzzle", 0)) * gauss(x, y, 0, -70, 24, 16)
    h += -(1.3 + g("philtrum", 0)) * gauss(x, y, 0, -58.5, 2.1, 4.5)
    h += 0.8 * gauss(a, y, 4.6, -60, 1.7, 4.5)
    lip = np.clip(1 - (a / (MOUTH_HALF + 1.5)) ** 2.2, 0, None)
    tall = 1 + g("lip_height", 0)
    h += (3.2 + g("lip_upper", 0)) * lip * np.exp(-0.5 * ((y - my - 3.9 * tall) / 2.7) ** 2)
    h += (4.2 + g("lip_lower", 0)) * lip * np.exp(-0.5 * ((y - my + 5.2 * tall) / 3.5) ** 2)
    h += -2.6 * np.sqrt(lip) * np.exp(-0.5 * ((y - my) / 1.6) ** 2)
    h += -2.2 * gauss(a, y, MOUTH_HALF + 2.5, my, 4.0, 4.0)
    h += -3.2 * gauss(x, y, 0, -88, 15, 3.8)
    chin_y = -102.0
    h += (7.5 + g("chin_out", 0)) * gauss(x, y, 0, chin_y, 15 * (1 + g("chin_width", 0)), 8.5)
    # cheeks
    h += (4.5 + g("cheekbone", 0)) * gauss(a, y, 49, -19, 13, 9.5)
    h += (3.0 + g("cheek", 0)) * gauss(a, y, 40, -46, 14, 17)
    h += -g("hollow", 0) * gauss(a, y, 48, -58, 10, 12)
    fold = np.clip((-42 - y) / 32.0, 0, 1)
    line = 19.0 + 13.5 * fold
    h += (
        -(1.3 + g("nasolabial", 0))
        * np.exp(-0.5 * ((a - line) / 2.6) ** 2)
        * smoothstep(y, -80, -66)
        * smoothstep(y, -36, -48)
    )
    h += (
        -(1.4 + g("bag", 0))
        * np.exp(-0.5 * ((y + 11.5 - 0.010 * (a - 30) ** 2) / 2.4) ** 2)
        * smoothstep(a, 12, 20)
        * smoothstep(a, 46, 34)
    )
    return h


def eye_centre(p=None):
    """Centre (3,) of the subject's left eye in mm (the right one is its mirror image)."""
    g = (p or {}).get
    x = EYE[0] + g("eye_apart", 0) + 0.35 * EYE[0] * g("head_width", 0)
    return np.array([x, EYE[1], -6.2 - g("eye_depth", 0)]) * (1 + g("scale", 0))


def skin_positions(points, p=None):
    """Positions (n, 3) in mm of the skin points of a ``Plan`` for sizes ``p``.

    Args:
        points: a ``topology.Plan``: ``u, v`` (n,), template frontal ``xy`` (n, 2), ``eye`` (n,)
            0, +1 (subject's left), -1, and ``ring`` (n,) ring offsets where ``eye`` is not 0.
        p: sizes by name, deviations from the template; see ``SIZES``.
    """
    g = (p or {}).get
    u, v = points.u.copy(), points.v.copy()
    x0, y0 = points.xy.T
    # lengthen the lower face, move mouth and chin, widen the mouth: warps of the plane
    low = smoothstep(y0, 0, -110) * smoothstep(v, -160, -118)
    dy = -110 * g("face_length", 0) * low
    dy -= g("chin_length", 0) * smoothstep(y0, -80, -104) * smoothstep(v, -150, -118)
    nose_zone = gauss(x0, y0, 0, -40, 16, 14)
    dy += 44 * -g("nose_length", 0) * nose_zone
    mouth_zone = gauss(x0, y0, 0, MOUTH_Y, 32, 14)
    dy += g("mouth_y", 0) * mouth_zone
    dx = x0 * g("mouth_width", 0) * gauss(x0, y0, 0, MOUTH_Y, 30, 12)
    dx = dx + x0 * g("ala_width", 0) * gauss(x0, y0, 0, -43, 20, 8)
    tall = g("lip_height", 0) * (y0 - MOUTH_Y)
    dy += tall * gauss(x0, y0, 0, MOUTH_Y, 22, 8)
    dy += g("brow_height", 0) * gauss(np.abs(x0), y0, 30, 16, 22, 5)
    front = np.abs(u) < 110
    cosine = np.maximum(np.cos(np.clip(u / TURN, -1.4, 1.4)), 0.5)
    u = u + np.where(front, dx / cosine, 0)
    v = v + dy
    xyz = base(u, v, p)
    face = smoothstep(np.abs(points.u), 118, 95) * smoothstep(v, -135, -116)
    xyz[:, 2] += face * bumps(x0, y0, p)
    xyz *= 1 + g("scale", 0)
    # eyes: everything near an eye is drawn from the eye's own centre
    centre = eye_centre(p)
    for side in (1, -1):
        dx0, dy0 = side * x0 - EYE[0], y0 - EYE[1]
        near = gauss(dx0, dy0, 0, 0, 13, 10)
        near = np.where(points.eye == side, np.maximum(near, points.lid_blend), near)
        sx = 1 + g("eye_width", 0)
        sy = 1 + g("eye_height", 0) - 0.25 * g("hood", 0) * (dy0 > 0) * 0.2
        lx, ly = dx0 * sx, dy0 * sy + g("eye_tilt", 0) * dx0
        lx, ly = lx * (1 + g("scale", 0)), ly * (1 + g("scale", 0))
        tx, ty = side * (centre[0] + lx), centre[1] + ly
        xyz[:, 0] += near * (tx - xyz[:, 0])
        xyz[:, 1] += near * (ty - xyz[:, 1])
        member = points.eye == side
        k = points.ring[member]
        ox = side * xyz[member, 0] - centre[0]
        oy = xyz[member, 1] - centre[1]
        radius = np.where(k < 0, 1.03, 1.065 + 0.10 * np.clip(k, 0, 1.2)) * RADIUS
        dz = np.sqrt(np.maximum(radius**2 - ox**2 - oy**2, (0.30 * RADIUS) ** 2))
        # the hood of the upper lid overhangs its crease
        dz += (1.2 + g("hood", 0)) * gauss(k, 0, 1.25, 0, 0.35, 1) * (oy > 0)
        dz += (0.7 + g("bag", 0)) * gauss(k, 0, 1.0, 0, 0.3, 1) * (oy < 0)
        lid = centre[2] + dz
        blend = smoothstep(k, 0.3, 2.1)
        mixed = lid * (1 - blend) + xyz[member, 2] * blend
        # a deep-set eye must not come through the skin around its lids
        cap = np.sqrt(np.maximum((1.09 * RADIUS) ** 2 - ox**2 - oy**2, 0.0))
        inside = ox**2 + oy**2 < (1.05 * RADIUS) ** 2
        xyz[member, 2] = np.where(inside, np.maximum(mixed, centre[2] + cap), mixed)
    return xyz


def ear_positions(count_r, count_t, p=None):
    """Positions (count_r * count_t + 1, 3) in mm of the subject's left ear; last is its centre."""
    g = (p or {}).get
    t = np.linspace(0, 2 * np.pi, count_t, endpoint=False)
    radii = np.array([0.22, 0.42, 0.60, 0.74, 0.88, 0.98, 1.0, 0.9])[:count_r]
    lift = np.array([-5.5, -4.0, 1.5, 0.0, 4.2, 3.0, 0.5, -3.5])[:count_r]
    # outline: broad above, a lobe below
    across = np.where(np.sin(t) > 0, 17.0, 13.0 + 3.0 * np.cos(t))
    tall = np.where(np.sin(t) > 0, 27.0, 31.0)
    a = radii[:, None] * across * np.cos(t)
    b = radii[:, None] * tall * np.sin(t)
    n = lift[:, None] * (0.55 + 0.45 * np.cos(t - 0.6)) + 0 * a
    n[:2] = lift[:2, None]
    size = 1 + g("ear_size", 0)
    ends = ((a, 0.0), (b, 0.0), (n, -6.0))
    a, b, n = (size * np.append(part.ravel(), end) for part, end in ends)
    a = a + 13.0
    flare = 0.46 + g("ear_out", 0)
    width = 73.0 * (1 + g("head_width", 0))
    x = width - 6.0 + a * np.sin(flare) + n * np.cos(flare)
    z = -77.0 - a * np.cos(flare) + n * np.sin(flare)
    lean = 0.20
    y = -14.0 + b * np.cos(lean) - (a - 13.0) * np.sin(lean) * 0.5
    z = z - b * np.sin(lean)
    return np.stack([x, y, z], -1) * (1 + g("scale", 0))
