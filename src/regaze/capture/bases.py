"""Linear bases of the head: identity, expression and pose correctives over a template."""

from __future__ import annotations

import numpy as np

from regaze.capture import surface
from regaze.capture.template import Template

EXPRESSIONS = (
    "eye_blink_left", "eye_blink_right", "eye_wide_left", "eye_wide_right",
    "brow_up", "brow_up_inner", "brow_down", "cheek_raise", "jaw_open", "smile",
    "frown", "pucker", "lip_press", "cheek_puff", "sneer", "upper_lip_raise",
)  # fmt: skip
"""Names of the first expression directions; the rest are small smooth fields."""

# How far each ring follows the margin of the lids.
_FOLLOW = ([-0.15, 0.0, 0.3, 0.65, 1.05, 1.5], [1, 1, 0.96, 0.84, 0.46, 0.0])


def draw_sizes(rng: np.random.Generator, spread: float = 1.0) -> dict[str, float]:
    """Draw semantic sizes: independent normals clipped at two standard deviations."""
    values = np.clip(rng.normal(size=len(surface.SIZES)), -2, 2) * spread
    return {n: float(v) * s for v, (n, s) in zip(values, surface.SIZES.items(), strict=True)}


def _fields(template: Template, rest: np.ndarray, rng, count: int, width: float) -> np.ndarray:
    """Smooth displacement fields (count, V, 3) of unit peak that leave eyes and lids alone."""
    skin = rest[template.parts["skin"]]
    anchor = skin[rng.integers(0, len(skin), count)]
    push = rng.normal(size=(count, 3))
    push /= np.linalg.norm(push, axis=1, keepdims=True)
    square = ((rest[None] - anchor[:, None]) ** 2).sum(-1)
    out = np.exp(-0.5 * square / width**2)[..., None] * push[:, None]
    centre = surface.eye_centre()
    for side in (1, -1):
        away = np.linalg.norm(rest - centre * [side, 1, 1], axis=1)
        out *= surface.smoothstep(away, 20, 42)[None, :, None]
    return out


def identity(template: Template, rest: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Identity basis (V, 3, count) in mm per unit code: principal components of drawn heads.

    Heads are drawn with :func:`draw_sizes` plus faint smooth fields (so that ``count`` directions
    exist); the directions are orthogonal and one unit is one standard deviation.
    """
    rng = np.random.default_rng([seed, 1])
    samples = max(2 * count, 240)
    fields = _fields(template, rest, rng, count, 24.0)
    heads = np.empty((samples, rest.size), np.float32)
    codes = rng.normal(size=(samples, count)) * 0.35
    for row in range(samples):
        heads[row] = (template.positions(draw_sizes(rng)) - rest).ravel()
    heads += (codes @ fields.reshape(count, -1)).astype(np.float32)
    heads -= heads.mean(0)
    gram = heads.astype(np.float64) @ heads.T.astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1][:count]
    scale = 1.0 / np.sqrt(samples - 1)
    directions = (heads.T.astype(np.float64) @ vectors[:, order]) * scale
    # the sign of an eigenvector is the solver's whim: fix it
    largest = np.abs(directions).argmax(0)
    directions *= np.sign(directions[largest, np.arange(order.size)])
    return directions.reshape(*rest.shape, count)


def _lids(template: Template, rest: np.ndarray, side: int):
    """Skin rows of one eye's lids, offsets from the eye centre, follow weight, upper flag."""
    plan, kept = template.plan, template.kept
    member = np.flatnonzero(plan.eye[kept] == side)
    centre = surface.eye_centre() * [side, 1, 1]
    follow = np.interp(plan.ring[kept][member], *_FOLLOW)
    sine = np.sin(plan.angle[kept][member])
    return member, rest[member] - centre, follow * np.abs(sine) ** 0.75, sine > 0


def expression(template: Template, rest: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Expression basis (V, 3, count) in mm per unit code; see ``EXPRESSIONS``."""
    out = np.zeros((*rest.shape, count))
    plan, kept = template.plan, template.kept
    n = len(kept)
    x0, y0 = plan.xy[kept].T
    a = np.abs(x0)
    lower = plan.lower_lip[kept] | (y0 < surface.MOUTH_Y - 0.5)
    face = surface.smoothstep(np.abs(plan.u[kept]), 118, 90)
    face = face * surface.smoothstep(plan.v[kept], -135, -116)
    column = {name: i for i, name in enumerate(EXPRESSIONS)}
    for side, word in ((1, "left"), (-1, "right")):
        member, offset, weight, upper = _lids(template, rest, side)
        # closing: the upper margin travels to the lower margin along the eyeball
        half, up, down = surface.ALMOND
        travel = weight * np.where(upper, up + 0.86 * down, 0.14 * down)
        height = offset[:, 1] + np.where(upper, -travel, travel)
        radius = surface.RADIUS * 1.10
        depth = np.sqrt(np.maximum(radius**2 - offset[:, 0] ** 2 - height**2, 1.0))
        front = np.where(weight > 0.5, np.maximum(depth, offset[:, 2]), offset[:, 2])
        shift = np.stack([0 * height, height - offset[:, 1], front - offset[:, 2]], -1)
        out[member, :, column[f"eye_blink_{word}"]] = shift
        wide = np.stack([0 * height, weight * np.where(upper, 1.1, -0.5), 0 * height], -1)
        out[member, :, column[f"eye_wide_{word}"]] = wide

    def add(name, dx, dy, dz):
        out[:n, 0, column[name]] += face * dx
        out[:n, 1, column[name]] += face * dy
        out[:n, 2, column[name]] += face * dz

    gauss, sign = surface.gauss, np.sign(x0)
    clear = np.where(plan.eye[kept] != 0, surface.smoothstep(plan.ring[kept], 0.8, 2.2), 1.0)
    brow = gauss(a, y0, 28, 19, 20, 9) * clear
    inner = gauss(a, y0, 12, 19, 10, 9) * clear
    zero = 0 * x0
    add("brow_up", zero, 2.6 * brow, 0.4 * brow)
    add("brow_up_inner", zero, 2.6 * inner, 0.5 * inner)
    add("brow_down", -sign * 1.2 * inner, -1.8 * brow - 0.8 * inner, 0.8 * inner)
    cheek = gauss(a, y0, 36, -24, 15, 11) * clear
    add("cheek_raise", zero, 2.2 * cheek, 1.6 * cheek)
    chin = surface.smoothstep(y0, -72, -84) * surface.smoothstep(a, 45, 15)
    jaw = np.where(lower, np.maximum(chin, gauss(x0, y0, 0, -76, 10, 9)), 0.0)
    add("jaw_open", zero, -3.0 * jaw, -0.6 * jaw)
    corner = gauss(a, y0, 25, -72, 9, 8)
    pull = gauss(a, y0, 26, -70, 16, 14)
    add("smile", sign * 3.2 * pull, 3.6 * corner + 1.5 * pull, -1.5 * corner + 1.2 * cheek)
    add("frown", sign * 0.6 * corner, -3.0 * corner, zero)
    mouth = gauss(x0, y0, 0, surface.MOUTH_Y, 20, 9)
    add("pucker", -x0 * 0.13 * mouth, zero, 3.2 * mouth)
    add("lip_press", zero, (surface.MOUTH_Y - y0) * 0.16 * mouth, -0.9 * mouth)
    puff = gauss(a, y0, 40, -58, 14, 16)
    add("cheek_puff", sign * 2.5 * puff, zero, 3.0 * puff)
    wing = gauss(a, y0, 13, -42, 6, 8)
    add("sneer", zero, 1.8 * wing, 0.4 * wing)
    top = np.where(lower, 0.0, gauss(x0, y0, 0, -67, 9, 7))
    add("upper_lip_raise", zero, 1.8 * top, 0.3 * top)
    extra = count - len(EXPRESSIONS)
    if extra > 0:
        rng = np.random.default_rng([seed, 2])
        fields = _fields(template, rest, rng, extra, 16.0)[:, :n] * face[None, :, None]
        out[:n, :, len(EXPRESSIONS) :] = 0.6 * fields.transpose(1, 2, 0)
    return out


def pose(template: Template, rest: np.ndarray) -> np.ndarray:
    """Pose correctives (V, 3, 36) in mm: lids follow the eyes, in FLAME's feature order.

    Joint 3 is the left eye, joint 4 the right one. For a rotation by ``a`` about x (down is
    positive) and ``b`` about y, entry 7 of a joint's nine features is ``sin a``, entry 4 is
    ``cos a - 1`` and entry 2 is ``sin b``. Offsets are tangent to the eyeball, so that lids move
    off it and never into it. Entry 4 makes the travel larger downwards than upwards.
    """
    out = np.zeros((*rest.shape, 36))
    radius = surface.RADIUS
    for side, joint in ((1, 3), (-1, 4)):
        member, offset, weight, upper = _lids(template, rest, side)
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        down = np.stack([0 * length[:, 0], -offset[:, 2], offset[:, 1]], -1) / length
        across = np.stack([offset[:, 2], 0 * length[:, 0], -offset[:, 0]], -1) / length
        linear = np.where(upper, 0.64, 0.27) * radius * weight
        square = np.where(upper, 0.50, 0.40) * radius * weight
        first = 9 * (joint - 1)
        out[member, :, first + 7] = linear[:, None] * down
        out[member, :, first + 4] = -square[:, None] * down
        out[member, :, first + 2] = 0.15 * radius * weight[:, None] * across
    return out
