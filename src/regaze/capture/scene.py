"""Camera, light, background and the poses of a series.

Camera frame: OpenCV (x right, y down, z into the scene), millimetres. Distortion is OpenCV's
five-parameter model k1, k2, p1, p2, k3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from regaze.angles import angles_from_vector, rotation_from_angles, vector_from_angles
from regaze.capture.skin_maps import linear

FACE_CENTRE = np.array([0.0, 30.0, 0.0])
"""Face centre in the Surrey model's frame, mm: row 13 of the face model of the normalisation."""
TO_FLAME = np.array([1.0, -1.0, -1.0])
"""Signs between the Surrey frame (x right, y down, z into the head) and FLAME's."""
HEAD_LIMIT = np.radians([15.0, 20.0])
GAZE_LIMIT = np.radians([15.0, 20.0])
EYE_LIMIT = np.radians([20.0, 28.0])


@dataclass(frozen=True)
class Camera:
    """Size in pixels, fx, fy, cx, cy in pixels, and distortion (5,)."""

    width: int
    height: int
    parameters: np.ndarray
    distortion: np.ndarray

    def distort(self, points: np.ndarray) -> np.ndarray:
        """Ideal image coordinates (n, 2), x/z and y/z, to distorted ones."""
        k1, k2, p1, p2, k3 = self.distortion
        x, y = points[..., 0], points[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        across = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        down = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return np.stack([across, down], -1)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) of points (n, 3) in camera coordinates, mm."""
        fx, fy, cx, cy = self.parameters
        ideal = points[..., :2] / points[..., 2:3]
        return self.distort(ideal) * [fx, fy] + [cx, cy]

    def directions(self, pixels: np.ndarray) -> np.ndarray:
        """Unit rays (n, 3) through pixel positions (n, 2); inverts the distortion to < 1e-9."""
        fx, fy, cx, cy = self.parameters
        target = (np.asarray(pixels, np.float64) - [cx, cy]) / [fx, fy]
        ideal = target.copy()
        for _ in range(9):
            ideal += target - self.distort(ideal)
        rays = np.concatenate([ideal, np.ones((*ideal.shape[:-1], 1))], -1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def ray_grid(self, offsets: np.ndarray) -> np.ndarray:
        """Rays (height, width, k, 3) float32 through pixel centres plus ``offsets`` (k, 2).

        Sub-pixel rays are extrapolated from the exact rays of the centres by their differences,
        which is exact to about 1e-6 of a pixel for the mild distortions drawn here.
        """
        ys, xs = np.mgrid[-1 : self.height + 1, -1 : self.width + 1]
        exact = self.directions(np.stack([xs, ys], -1))
        across = 0.5 * (exact[1:-1, 2:] - exact[1:-1, :-2])
        down = 0.5 * (exact[2:, 1:-1] - exact[:-2, 1:-1])
        rays = exact[1:-1, 1:-1, None] + (
            across[:, :, None] * offsets[:, :1] + down[:, :, None] * offsets[:, 1:]
        )
        return rays.astype(np.float32)


@dataclass(frozen=True)
class Light:
    """Directions point from the subject to the light, camera frame; colours are linear RGB.

    ``lamps`` are what eyes and lenses reflect of it, see :mod:`regaze.capture.lamps`.
    """

    key: np.ndarray
    key_colour: np.ndarray
    spread: float
    fill: np.ndarray
    fill_colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    exposure: float
    lamps: tuple = ()

    def codes(self) -> np.ndarray:
        """All numbers of the light on faces, (20,)."""
        parts = [self.key, self.key_colour, [self.spread], self.fill, self.fill_colour]
        parts += [self.sky, self.ground, [self.exposure]]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Series:
    """Poses of one series: ``heads`` (h, 2) and ``gazes`` (g, 2) labels, and placement.

    ``rotation`` (h, 3, 3) is the normalising rotation R of each head pose, ``centre`` (h, 3) the
    face centre in camera coordinates, mm.
    """

    heads: np.ndarray
    gazes: np.ndarray
    rotation: np.ndarray
    centre: np.ndarray

    def head_rotation(self, head: int) -> np.ndarray:
        """Rotation (3, 3) from the Surrey model's frame to the camera's."""
        return self.rotation[head].T @ rotation_from_angles(self.heads[head])

    def translation(self, head: int) -> np.ndarray:
        """Translation (3,) in mm that puts the face centre at ``centre``."""
        return self.centre[head] - self.head_rotation(head) @ FACE_CENTRE

    def target(self, head: int, gaze: int) -> np.ndarray:
        """Point (3,) on the plane z = 0 that the gaze from the face centre meets, mm."""
        ray = -self.rotation[head].T @ vector_from_angles(self.gazes[gaze])
        return self.centre[head] - ray * (self.centre[head][2] / ray[2])


def draw_camera(rng: np.random.Generator, height: int, focal: float) -> Camera:
    """A webcam (landscape) or phone (portrait) whose short side is ``height`` pixels.

    ``focal`` is the mean focal length in pixels; persons vary by 4 % about it.
    """
    short, long = height, int(round(height * 4 / 3 / 2)) * 2
    width, tall = (long, short) if rng.random() < 0.5 else (short, long)
    f = focal * rng.uniform(0.96, 1.04)
    fy = f * rng.uniform(0.995, 1.005)
    cx, cy = width / 2 + rng.normal(0, 1.5), tall / 2 + rng.normal(0, 1.5)
    k1 = rng.uniform(-0.16, 0.10)
    distortion = [k1, -0.5 * k1 * rng.uniform(0, 1), rng.normal(0, 1e-3), rng.normal(0, 1e-3)]
    distortion.append(rng.normal(0, 0.02))
    return Camera(width, tall, np.round([f, fy, cx, cy], 4), np.round(np.array(distortion), 6))


def _towards(azimuth: float, elevation: float) -> np.ndarray:
    """Direction seen from the subject: azimuth to image right, elevation up, both radians."""
    c = np.cos(elevation)
    return np.array([np.sin(azimuth) * c, -np.sin(elevation), -np.cos(azimuth) * c])


def draw_light(rng: np.random.Generator) -> Light:
    """One key light, a weaker fill from the other side, a sky and a ground colour."""
    azimuth = np.radians(rng.uniform(15, 65)) * rng.choice([-1, 1])
    warmth = rng.normal(0.025, 0.045)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    key = rng.uniform(0.9, 1.9)
    ambient = rng.uniform(0.45, 0.9)
    cool = np.array([1 - 0.5 * warmth, 1.0, 1 + 0.7 * warmth])
    return Light(
        key=_towards(azimuth, np.radians(rng.uniform(12, 55))),
        key_colour=key * tint,
        spread=float(rng.uniform(0.05, 0.22)),
        fill=_towards(-azimuth * rng.uniform(0.6, 1.2), np.radians(rng.uniform(-10, 30))),
        fill_colour=rng.uniform(0.10, 0.45) * cool,
        sky=ambient * cool,
        ground=ambient * rng.uniform(0.35, 0.7) * tint,
        exposure=float(rng.uniform(0.85, 1.15) / (0.55 * key + 0.8 * ambient)),
    )


def draw_wide_light(rng: np.random.Generator) -> Light:
    """A light of the appearance ``varied``: from ahead or aside, soft or hard, warm or cold."""
    azimuth = np.radians(rng.uniform(0, 80)) * rng.choice([-1, 1])
    warmth = rng.normal(0.02, 0.10)
    tint = np.array([1 + warmth, 1.0, 1 - 1.2 * warmth])
    cool = np.array([1 - 0.4 * warmth, 1.0, 1 + 0.5 * warmth]) * (1 + rng.normal(0, 0.03, 3))
    # from an overcast day, all sky, to one lamp in a dark room
    key, ambient = 1.4 * np.array([share := rng.uniform(0.15, 0.9), 0.9 * (1 - 0.85 * share)])
    brightness = np.exp(rng.normal(0, 0.18))
    return Light(
        key=_towards(azimuth, np.radians(rng.uniform(-5, 65))),
        key_colour=key * tint,
        spread=float(rng.uniform(0.03, 0.35)),
        fill=_towards(-azimuth * rng.uniform(0.4, 1.4), np.radians(rng.uniform(-25, 40))),
        fill_colour=key * rng.uniform(0.03, 0.6) * cool,
        sky=ambient * cool,
        ground=ambient * rng.uniform(0.25, 0.9) * tint,
        exposure=float(brightness / (0.55 * key + 0.8 * ambient)),
    )


def expose(light: Light, skin: np.ndarray) -> Light:
    """The light as a camera with automatic exposure would meter it for a skin's colour (3,)."""
    return replace(light, exposure=light.exposure * float((0.33 / skin.mean()) ** 0.28))


def draw_background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A blurred room or garden, linear RGB (height, width, 3) float32."""
    first = rng.uniform(40, 220) + rng.normal(0, 14, 3)
    second = rng.uniform(30, 230) + rng.normal(0, 16, 3)
    a, b = linear(np.clip(first, 8, 245)), linear(np.clip(second, 8, 245))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    t = 0.5 + 0.5 * np.tanh(ramp / (0.35 * width))
    image = a + (b - a) * t[..., None]
    for _ in range(int(rng.integers(2, 9))):
        colour = linear(np.clip(rng.uniform(20, 240) + rng.normal(0, 24, 3), 5, 250))
        w, h = rng.uniform(0.06, 0.5, 2) * [width, height]
        cx, cy = rng.uniform(0, 1, 2) * [width, height]
        box = (np.abs(x - cx) < w / 2) & (np.abs(y - cy) < h)
        image[box] += rng.uniform(0.3, 0.9) * (colour - image[box])
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), float(rng.uniform(4, 12)))
    return np.clip(image, 0.002, 1.0)


def draw_series(rng: np.random.Generator, heads: int, gazes: int, limits=None) -> Series:
    """Labels and placement of a series; see the module docstring and ``EYE_LIMIT``.

    Every gaze goes with every head pose, so the gazes (a Latin hypercube over the range all heads
    allow) are redrawn, with new heads where needed, until no eye turns beyond its limit.

    Args:
        rng: of the person.
        heads, gazes: how many of each.
        limits: largest pitch and yaw, radians, of heads and of gazes, (2, 2); None for
            ``HEAD_LIMIT`` and ``GAZE_LIMIT``. Eyes turn as much further as they do there.

    Raises:
        RuntimeError: no series is found within them.
    """
    head_limit, gaze_limit = (HEAD_LIMIT, GAZE_LIMIT) if limits is None else limits
    eye_limit = EYE_LIMIT + (gaze_limit - GAZE_LIMIT)
    # the gazes of all heads shall be spread over two thirds of a small range, 10 and 14 degrees
    # of the usual one
    spread = np.minimum(np.radians([10.0, 14.0]), 4 / 3 * gaze_limit)
    for _ in range(1000):
        head = rng.uniform(-1, 1, (heads, 2)) * head_limit
        low = np.maximum(-gaze_limit, head.max(0) - eye_limit)
        high = np.minimum(gaze_limit, head.min(0) + eye_limit)
        if np.any(high - low < spread):
            continue
        strata = np.stack([rng.permutation(gazes), rng.permutation(gazes)], -1)
        gaze = low + (high - low) * (strata + rng.uniform(0.1, 0.9, (gazes, 2))) / gazes
        frames = rotation_from_angles(head)
        within = np.einsum("hji,gj->hgi", frames, vector_from_angles(gaze))
        if np.all(np.abs(angles_from_vector(within)) <= eye_limit):
            break
    else:
        raise RuntimeError("no series found within the limits of head, gaze and eye")
    distance = rng.uniform(520, 620)
    place = np.array([rng.uniform(-18, 18), rng.uniform(-14, 14), distance])
    centre = place + rng.normal(0, 1.5, (heads, 3)) * [1, 1, 2]
    roll = rng.normal(0, np.radians(2.0), heads)
    forward = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    rows = np.stack([c * right + s * down, -s * right + c * down, forward], 1)
    return Series(head, gaze, rows, centre)
