"""What eyes and lenses reflect: windows, lamps, a screen and the room, far away from the head.

Lamps stand still in the camera's frame, so that a reflection moves with the light and not with
the iris or the frame that it is seen in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regaze.capture.surface import smoothstep


@dataclass(frozen=True)
class Lamp:
    """A bright area of the surroundings.

    Attributes:
        axes: (3, 3) unit rows: to its right, up, and to its middle, seen from the subject.
        half: tangents of half its width and height, seen from the subject.
        radiance: (3,) linear RGB.
        shape: ``window``, ``round`` or ``ring``.
    """

    axes: np.ndarray
    half: np.ndarray
    radiance: np.ndarray
    shape: str

    def turned(self, turn: np.ndarray) -> Lamp:
        """The same in another frame: ``turn`` (3, 3) takes vectors there."""
        return replace(self, axes=(self.axes @ turn.T).astype(np.float32))

    def seen(self, rays: np.ndarray) -> np.ndarray:
        """Share (n,) of its radiance that comes from unit directions ``rays`` (n, 3)."""
        right, up, ahead = (rays @ self.axes.T).T
        # what is behind would be seen through the middle
        ahead = np.where(ahead > 1e-3, ahead, 1e-6)
        right = np.where(ahead > 1e-3, right, 1.0)
        x, y = np.abs(right / ahead) / self.half[0], np.abs(up / ahead) / self.half[1]
        if self.shape == "window":
            pane = 1 - 0.6 * smoothstep(x, 0.14, 0.05)
            return smoothstep(x, 1.12, 0.88) * smoothstep(y, 1.12, 0.88) * pane
        out = np.hypot(x, y)
        if self.shape == "ring":
            return smoothstep(np.abs(out - 0.8), 0.26, 0.14)
        return smoothstep(out, 1.15, 0.85)


def _axes(ahead: np.ndarray, roll: float) -> np.ndarray:
    """Axes of a lamp in the direction ``ahead`` (3,), camera frame, rolled by radians."""
    right = np.cross([0.0, 1.0, 0.0], ahead)
    right /= np.linalg.norm(right)
    up = np.cross(ahead, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * up, -s * right + c * up, ahead])


def draw_lamps(rng: np.random.Generator, light) -> tuple[Lamp, ...]:
    """One to four lamps that may have made a :class:`regaze.capture.scene.Light`.

    The key light is always among them, as a window, a lamp or a soft box, as bright as its size
    and its light on the face ask for.
    """
    lamps = [_key(rng, light.key, light.key_colour)]
    if rng.random() < 0.45:
        lamps.append(_key(rng, light.fill, light.fill_colour))
    if rng.random() < 0.5:  # the screen below the camera, or a ring about it
        ahead = np.array([rng.normal(0, 0.12), rng.uniform(0.05, 0.45), -1.0])
        ring = rng.random() < 0.2
        if ring:
            ahead = np.array([rng.normal(0, 0.04), rng.normal(0, 0.04), -1.0])
        size = rng.uniform(0.12, 0.3)
        half = np.array([size, size if ring else 0.62 * size])
        glow = light.key_colour.mean() * rng.uniform(4, 14) * (3.0 if ring else 1.0)
        tint = np.array([0.9, 1.0, rng.uniform(1.0, 1.25)])
        ahead /= np.linalg.norm(ahead)
        lamps.append(Lamp(_axes(ahead, 0.0), half, glow * tint, "ring" if ring else "window"))
    if rng.random() < 0.35:  # a small bright lamp on the ceiling
        azimuth, elevation = rng.uniform(-1, 1), rng.uniform(0.5, 1.0)
        ahead = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation),
                          -np.cos(azimuth) * np.cos(elevation)])  # fmt: skip
        half = np.full(2, rng.uniform(0.06, 0.14))
        lamps.append(Lamp(_axes(ahead, 0.0), half, light.key_colour * 60, "round"))
    return tuple(lamps)


def _key(rng: np.random.Generator, ahead: np.ndarray, colour: np.ndarray) -> Lamp:
    shape = str(rng.choice(["window", "window", "round"]))
    size = np.exp(rng.uniform(np.log(0.09), np.log(0.42)))
    tall = size * (rng.uniform(0.7, 1.6) if shape == "window" else 1.0)
    # what a matte white face receives, spread over the lamp's solid angle
    radiance = colour * np.pi / (4 * size * tall)
    return Lamp(
        _axes(ahead, rng.normal(0, 0.06)),
        np.array([size, tall]),
        np.minimum(radiance, 120.0),
        shape,
    )


def mirrored(lamps, lights, rays: np.ndarray) -> np.ndarray:
    """Light (n, 3) from directions ``rays`` (n, 3): lamps, and the room between sky and ground."""
    # what is in front of a face is darker than what shines on it from everywhere
    sky = smoothstep(rays @ lights.up, -0.3, 0.9)[:, None] * (lights.sky - lights.ground)
    out = 0.22 * (lights.ground + sky)
    for lamp in lamps:
        out = out + lamp.seen(rays)[:, None] * lamp.radiance
    return out


def fresnel(cosine: np.ndarray, base: float) -> np.ndarray:
    """Share of light that a surface reflects; Schlick 1994."""
    return base + (1 - base) * (1 - np.clip(cosine, 0, 1)) ** 5
