"""Light on skin, hair, cloth and eyes, vectorised over ray hits; linear RGB float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regaze.capture.parts import LABELS

# Red light travels farther below the skin: the terminator is wider and warmer.
WRAP = np.array([0.30, 0.17, 0.12], np.float32)


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
    lamps: tuple


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
        tuple(lamp.turned(turn) for lamp in light.lamps),
    )  # fmt: skip


def develop(linear: np.ndarray, exposure: float) -> np.ndarray:
    """Linear RGB to sRGB uint8 with a soft shoulder."""
    c = np.maximum(linear * np.float32(exposure), 0)
    c = c * (1 + c * 0.10) / (1 + 0.50 * c)
    low = c * 12.92
    high = 1.055 * np.power(np.maximum(c, 1e-6), 1 / 2.4) - 0.055
    return (np.clip(np.where(c <= 0.0031308, low, high), 0, 1) * 255 + 0.5).astype(np.uint8)


def dot(a, b):
    """Row-wise scalar products (n,) of (n, 3) and (n, 3)."""
    return np.einsum("ij,ij->i", a, b)


def shadows(scene, point, normal, rays, lights: Lights, index) -> np.ndarray:
    """Share of the key light (n,) that reaches hits: one ray each, toward one of four lamps.

    ``index`` (n,) is the number of the sample; a pixel's four samples look at the four lamps, so
    that the average over a pixel has soft edges.
    """
    facing = np.where(dot(normal, rays)[:, None] > 0, -normal, normal)
    keys = lights.keys[index & 3]
    lit = np.flatnonzero(dot(facing, keys) > -0.25)
    start = point[lit] + 0.6 * facing[lit] - 0.4 * rays[lit]
    out = np.ones(len(point), np.float32)
    hit = scene.run(np.ascontiguousarray(start), np.ascontiguousarray(keys[lit]), query="OCCLUDED")
    out[lit] = hit < 0
    return out


def ambient(normal, occlusion, lights: Lights):
    """Light (n, 3) of sky and ground on normals (n, 3), dimmed by open shares (n,)."""
    up = 0.5 + 0.5 * (normal @ lights.up)
    sky = lights.ground + up[:, None] * (lights.sky - lights.ground)
    return sky * occlusion[:, None]


def matte(hits, rays, lights: Lights, shadow) -> np.ndarray:
    """Cloth: wrapped diffuse light."""
    normal = np.where(dot(hits.normal, rays)[:, None] > 0, -hits.normal, hits.normal)
    key = np.clip(normal @ lights.key, 0, 1) * shadow
    fill = np.clip(normal @ lights.fill * 0.7 + 0.3, 0, 1)
    light = key[:, None] * lights.key_colour + fill[:, None] * lights.fill_colour
    return hits.albedo * (light + 0.8 * ambient(normal, hits.occlusion, lights))


def skin_or_hair(actor, hits, rays, lights: Lights, shadow) -> np.ndarray:
    """Colours (n, 3) of hits on skin, hair and glasses."""
    facing = dot(hits.normal, rays)
    normal = np.where(facing[:, None] > 0, -hits.normal, hits.normal)
    cosine = (normal @ lights.key)[:, None]
    is_hair = hits.label == LABELS["hair"]
    wrap = np.where(is_hair[:, None], np.float32(0.35), WRAP)
    key = np.clip((cosine + wrap) / (1 + wrap), 0, 1)
    # shadows bleed red on skin
    bleed = np.array([0.10, 0.035, 0.025], np.float32)
    bleed = np.where(is_hair[:, None], np.float32(0.10), bleed)
    open_ = shadow[:, None] + (1 - shadow[:, None]) * bleed
    fill = np.clip(normal @ lights.fill * 0.75 + 0.25, 0, 1) * (0.4 + 0.6 * hits.occlusion)
    # Interpolation can fall a hair below zero, of which no power is a number.
    dark = np.maximum(hits.occlusion, 0) ** 1.15
    light = key * open_ * lights.key_colour + fill[:, None] * lights.fill_colour
    light += ambient(normal, dark, lights)
    # Blinn highlight and a little Fresnel sheen
    half = lights.key - rays
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    peak = np.clip(dot(normal, half), 0, 1)
    spec = hits.gloss * (0.055 * peak**14 + 0.05 * peak**48) * shadow
    rim = hits.gloss * 0.035 * (1 - np.clip(np.abs(facing), 0, 1)) ** 3 * hits.occlusion
    colour = hits.albedo * light
    colour += spec[:, None] * lights.key_colour + rim[:, None] * lights.sky
    return colour.astype(np.float32)
