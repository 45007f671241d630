"""Light on skin, hair, cloth and eyes, vectorised over ray hits; linear RGB float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regaze.capture import surface
from regaze.capture.parts import LABELS

# Red light travels farther below the skin: the terminator is wider and warmer.
WRAP = np.array([0.30, 0.17, 0.12], np.float32)
LIMBUS = np.radians(29.5)


@dataclass(frozen=True)
class Lights:
    """A :class:`regaze.capture.scene.Light` with its directions turned into the head frame."""

    key: np.ndarray
    keys: np.ndarray
    key_colour: np.ndarray
    fill: np.ndarray
    fill_colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    up: np.ndarray


def lights_in(light, turn: np.ndarray) -> Lights:
    """Turn a light into a frame: ``turn`` (3, 3) takes camera vectors to that frame."""
    helper = np.array([0.3, 1.0, 0.2])
    side = np.cross(light.key, helper)
    side /= np.linalg.norm(side)
    other = np.cross(light.key, side)
    corners = np.array([[1, 0.4], [-0.4, 1], [-1, -0.4], [0.4, -1]]) * light.spread
    keys = light.key + corners[:, :1] * side + corners[:, 1:] * other
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)

    def to(vectors):
        return (np.asarray(vectors) @ turn.T).astype(np.float32)

    def as32(colour):
        return np.asarray(colour, np.float32)

    return Lights(
        to(light.key), to(keys), as32(light.key_colour), to(light.fill), as32(light.fill_colour),
        as32(light.sky), as32(light.ground), to(np.array([0.0, -1.0, 0.0])),
    )  # fmt: skip


def develop(linear: np.ndarray, exposure: float) -> np.ndarray:
    """Linear RGB to sRGB uint8 with a soft shoulder."""
    c = np.maximum(linear * np.float32(exposure), 0)
    c = c * (1 + c * 0.10) / (1 + 0.50 * c)
    low = c * 12.92
    high = 1.055 * np.power(np.maximum(c, 1e-6), 1 / 2.4) - 0.055
    return (np.clip(np.where(c <= 0.0031308, low, high), 0, 1) * 255 + 0.5).astype(np.uint8)


def _dot(a, b):
    return np.einsum("ij,ij->i", a, b)


def shadows(scene, point, normal, rays, lights: Lights, index) -> np.ndarray:
    """Share of the key light (n,) that reaches hits: one ray each, toward one of four lamps.

    ``index`` (n,) is the number of the sample; a pixel's four samples look at the four lamps, so
    that the average over a pixel has soft edges.
    """
    facing = np.where(_dot(normal, rays)[:, None] > 0, -normal, normal)
    keys = lights.keys[index & 3]
    lit = np.flatnonzero(_dot(facing, keys) > -0.25)
    start = point[lit] + 0.6 * facing[lit] - 0.4 * rays[lit]
    out = np.ones(len(point), np.float32)
    hit = scene.run(np.ascontiguousarray(start), np.ascontiguousarray(keys[lit]), query="OCCLUDED")
    out[lit] = hit < 0
    return out


def _ambient(normal, occlusion, lights: Lights):
    up = 0.5 + 0.5 * (normal @ lights.up)
    sky = lights.ground + up[:, None] * (lights.sky - lights.ground)
    return sky * occlusion[:, None]


def matte(hits, rays, lights: Lights, shadow) -> np.ndarray:
    """Cloth: wrapped diffuse light."""
    normal = np.where(_dot(hits.normal, rays)[:, None] > 0, -hits.normal, hits.normal)
    key = np.clip(normal @ lights.key, 0, 1) * shadow
    fill = np.clip(normal @ lights.fill * 0.7 + 0.3, 0, 1)
    light = key[:, None] * lights.key_colour + fill[:, None] * lights.fill_colour
    return hits.albedo * (light + 0.8 * _ambient(normal, hits.occlusion, lights))


def skin_or_hair(actor, hits, rays, lights: Lights, shadow) -> np.ndarray:
    """Colours (n, 3) of hits on skin, hair and glasses."""
    facing = _dot(hits.normal, rays)
    normal = np.where(facing[:, None] > 0, -hits.normal, hits.normal)
    cosine = (normal @ lights.key)[:, None]
    is_hair = hits.label == LABELS["hair"]
    wrap = np.where(is_hair[:, None], np.float32(0.35), WRAP)
    key = np.clip((cosine + wrap) / (1 + wrap), 0, 1)
    # shadows bleed red on skin
    open_ = shadow[:, None] + (1 - shadow[:, None]) * np.where(
        is_hair[:, None], np.float32(0.10), np.array([0.10, 0.035, 0.025], np.float32)
    )
    fill = np.clip(normal @ lights.fill * 0.75 + 0.25, 0, 1) * (0.4 + 0.6 * hits.occlusion)
    dark = hits.occlusion**1.15
    light = key * open_ * lights.key_colour + fill[:, None] * lights.fill_colour
    light += _ambient(normal, dark, lights)
    # Blinn highlight and a little Fresnel sheen
    half = lights.key - rays
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    peak = np.clip(_dot(normal, half), 0, 1)
    spec = hits.gloss * (0.055 * peak**14 + 0.05 * peak**48) * shadow
    rim = hits.gloss * 0.035 * (1 - np.clip(np.abs(facing), 0, 1)) ** 3 * hits.occlusion
    colour = hits.albedo * light
    colour += spec[:, None] * lights.key_colour + rim[:, None] * lights.sky
    return colour.astype(np.float32)


def eye_colours(view, eyes, side: int, rays, behind, depth, label):
    """Colours and labels of the samples of one eye box for one gaze.

    The nearest of three things wins: what was traced before (nose, glasses, hair), the lids'
    triangles, and the eyeball, a sphere with an iris about its axis.
    """
    actor, origin = view.actor, view.origin
    from regaze.capture.renderer import trace

    face, u, v, distance = trace(eyes.trees[side], origin, rays)
    centre = eyes.centres[side]
    lights = lights_in(view.light, view.to_head)
    o = origin - centre
    b = rays @ o.astype(np.float32)
    radius = surface.RADIUS
    gap = b * b - np.float32(o @ o - radius**2)
    ball = np.where(gap > 0, -b - np.sqrt(np.maximum(gap, 0)), np.inf).astype(np.float32)
    # nothing of a ball is seen but through the opening, which the lids' mesh decides
    near = np.flatnonzero(np.isfinite(ball))
    spot = origin.astype(np.float32) + rays[near] * ball[near, None]
    above, below, reach = _opening(eyes.margins[side], spot)
    # the socket's skin hides the ball wherever the lids' edges say so
    ball[near[(above < -1.5) | (below < -1.5) | (reach < -1.0)]] = np.inf
    on_lid = (distance < depth) & (distance <= ball)
    on_ball = (ball < depth) & (ball < distance)
    colour, label = behind.copy(), label.copy()
    lid = np.flatnonzero(on_lid)
    sample = np.arange(len(rays))
    if lid.size:
        hits = eyes.surfaces[side].at(face[lid], u[lid], v[lid])
        point = origin.astype(np.float32) + rays[lid] * distance[lid, None]
        shadow = shadows(actor.shadow_tree, point, hits.normal, rays[lid], lights, sample[lid])
        _make_up(actor.look, hits)
        colour[lid] = skin_or_hair(actor, hits, rays[lid], lights, shadow)
        label[lid] = LABELS["skin"]
    seen = np.flatnonzero(on_ball)
    if seen.size:
        colour[seen] = _ball(view, eyes, side, rays[seen], ball[seen], lights, sample[seen])
        label[seen] = LABELS["left_eye"] if side == 0 else LABELS["right_eye"]
    return colour, label


def _opening(margin, point):
    """How far points (n, 3) are below the upper lid, above the lower one, from the corners, mm."""
    middle = margin[:, 1].mean()
    top = margin[margin[:, 1] >= middle]
    low = margin[margin[:, 1] < middle]
    top, low = top[np.argsort(top[:, 0])], low[np.argsort(low[:, 0])]
    above = np.interp(point[:, 0], top[:, 0], top[:, 1]) - point[:, 1]
    below = point[:, 1] - np.interp(point[:, 0], low[:, 0], low[:, 1])
    reach = np.minimum(point[:, 0] - margin[:, 0].min(), margin[:, 0].max() - point[:, 0])
    return above, below, reach


def _make_up(look, hits) -> None:
    """Lash line, wet edge and crease on lid hits, in place; ``extra`` holds ring and lid."""
    ring, side = hits.extra[:, 0], hits.extra[:, 1]
    upper = surface.smoothstep(side, -0.35, 0.35)
    lining = ring > 15
    lower_lash = 0.40 * look.lashes + 0.4 * look.liner
    lash = lower_lash + (look.lashes - lower_lash) * upper
    width = 0.20 + (0.16 + 0.14 * look.liner) * upper
    line = lash * surface.smoothstep(ring, width + 0.20, width * 0.4)
    line = np.where(ring < -0.06, line * (0.35 + 0.55 * upper), line)
    crease = 0.22 * upper * np.exp(-0.5 * ((ring - 0.95) / 0.2) ** 2)
    shadow = 0.28 * look.liner * upper * surface.smoothstep(ring, 1.6, 0.4)
    wet = surface.smoothstep(ring, 0.02, -0.1) * (1 - upper)
    albedo = hits.albedo
    keep = ~lining
    pink = np.array([1.0, 0.72, 0.70], np.float32)
    factor = (1 - line) * (1 - crease) * (1 - shadow)
    albedo[keep] *= factor[keep, None].astype(np.float32)
    albedo[keep] *= 1 + wet[keep, None] * (pink - 1)
    hits.gloss[keep] *= 1 - 0.7 * line[keep].astype(np.float32)


def _ball(view, eyes, side, rays, distance, lights, sample):
    """Colours of eyeball hits: sclera, limbus, iris with fibres, pupil, highlight."""
    actor, look = view.actor, view.actor.look
    point = view.origin.astype(np.float32) + rays * distance[:, None]
    local = point - eyes.centres[side].astype(np.float32)
    normal = local / surface.RADIUS
    axis = eyes.axes[side].astype(np.float32)
    cosine = np.clip(normal @ axis, -1, 1)
    angle = np.arccos(cosine)
    right = np.cross([0.0, 1.0, 0.0], axis).astype(np.float32)
    right /= np.linalg.norm(right)
    up = np.cross(axis, right)
    turn = np.arctan2(normal @ up, normal @ right)
    ratio = angle / LIMBUS
    phase = look.seed % 97
    fibres = 0.5 + 0.5 * np.sin(turn * 31 + phase + 3 * np.sin(turn * 7 + phase))
    iris = look.iris * (0.72 + 0.55 * fibres * surface.smoothstep(ratio, 0.3, 0.7))[:, None]
    collar = surface.smoothstep(ratio, 0.62, 0.42)[:, None]
    iris = iris * (1 + collar * np.array([0.35, 0.18, 0.02]))
    iris = iris * (1 - look.iris_edge * surface.smoothstep(ratio, 0.78, 0.98))[:, None]
    pupil = surface.smoothstep(angle, look.pupil - 0.012, look.pupil + 0.012)[:, None]
    iris = 0.006 + (iris - 0.006) * pupil
    veins = 1 - 0.16 * surface.smoothstep(angle, 0.75, 1.3)
    white = look.sclera * np.stack([np.ones_like(veins), veins, veins], -1)
    edge = surface.smoothstep(angle, LIMBUS - 0.02, LIMBUS + 0.045)[:, None]
    albedo = iris + (white - iris) * edge
    # the upper lid and the corners darken the ball
    above, below, reach = _opening(eyes.margins[side], point)
    dim = (0.42 + 0.58 * surface.smoothstep(above, -0.6, 3.4)) * (
        0.72 + 0.28 * surface.smoothstep(below, -0.4, 1.6)
    )
    dim = dim * (0.70 + 0.30 * surface.smoothstep(reach, 0.0, 4.5))
    shadow = shadows(actor.shadow_tree, point + 0.5 * normal, normal, rays, lights, sample)
    key = np.clip((normal @ lights.key + 0.25) / 1.25, 0, 1) * (0.15 + 0.85 * shadow)
    fill = np.clip(normal @ lights.fill * 0.6 + 0.4, 0, 1)
    light = key[:, None] * lights.key_colour + fill[:, None] * lights.fill_colour
    light += 0.7 * _ambient(normal, np.ones(len(point), np.float32), lights)
    colour = 0.86 * albedo * light * dim[:, None]
    # highlights sit on the cornea, a smaller sphere in front of the iris
    bulge = local - 0.42 * surface.RADIUS * axis
    bulge /= np.linalg.norm(bulge, axis=1, keepdims=True)
    bent = np.where(edge < 0.5, bulge, normal)
    for lamp, power, strength in ((lights.key, 180, 0.9), (lights.fill, 60, 0.10)):
        half = lamp - rays
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        peak = np.clip(_dot(bent, half), 0, 1) ** power
        colour += (strength * peak * (above > 0.2) * (0.3 + 0.7 * shadow))[:, None]
    return colour.astype(np.float32)
