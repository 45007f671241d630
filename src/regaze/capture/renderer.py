"""Perspective ray casting of one person: static surfaces once per head pose, eyes once per frame.

Frames of a head pose differ in the eyes and lids alone, so skin, hair, glasses, clothes, shadows
and background are traced once per head pose, and a frame traces only the rays of the two eye
boxes against the lids and two analytic eyeballs. Rays run in the head's own frame (FLAME axes,
mm), where the geometry stands still and its Embree tree is built once per person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from regaze.capture import shading
from regaze.capture.parts import LABELS
from regaze.capture.scene import TO_FLAME, Camera, Light, Series

SUB = np.array([[-0.125, -0.375], [0.375, -0.125], [-0.375, 0.125], [0.125, 0.375]])
"""Offsets of the four rays of a pixel (rotated grid), pixels."""


def tree(vertices: np.ndarray, faces: np.ndarray):
    """An Embree scene of one mesh."""
    scene = rtcore_scene.EmbreeScene(robust=True)
    TriangleMesh(scene, vertices.astype(np.float32), faces.astype(np.int32))
    return scene


def trace(scene, origin: np.ndarray, rays: np.ndarray):
    """Nearest hits of rays (n, 3) from one origin: triangle (n,), u, v, distance (inf = none)."""
    start = np.broadcast_to(origin.astype(np.float32), rays.shape)
    hit = scene.run(np.ascontiguousarray(start), rays, output=True)
    distance = np.where(hit["primID"] >= 0, hit["tfar"], np.inf).astype(np.float32)
    return hit["primID"], hit["u"], hit["v"], distance


@dataclass(frozen=True)
class Frame:
    """One finished photo: sRGB uint8 (H, W, 3) and mask labels uint8 (H, W)."""

    pixels: np.ndarray
    labels: np.ndarray


class View:
    """A person seen by a camera in one head pose: traced once, then finished per gaze.

    Args:
        actor: a :class:`regaze.capture.actor.Actor`.
        camera, light, background: of the series; background (H, W, 3) linear RGB.
        grid: ``camera.ray_grid(SUB)``, the same for all views of a camera.
        series, head: the poses, and which head pose.
    """

    def __init__(
        self,
        actor,
        camera: Camera,
        grid: np.ndarray,
        light: Light,
        background: np.ndarray,
        series: Series,
        head: int,
    ):
        self.actor, self.camera, self.grid, self.light = actor, camera, grid, light
        rotation, t = series.head_rotation(head), series.translation(head)
        # x_head = D Rh^T (x_camera - t), D = diag(1, -1, -1)
        self.to_head = TO_FLAME[:, None] * rotation.T
        self.origin = self.to_head @ -t
        self.rotation, self.translation = rotation, t
        lean = series.rotation[head].T @ _partial(series.heads[head], 0.45)
        self.to_body = TO_FLAME[:, None] * lean.T
        pivot = rotation @ (TO_FLAME * actor.neck) + t
        self.body_origin = self.to_body @ -pivot + actor.neck
        self._trace_static(background)

    def camera_points(self, points: np.ndarray) -> np.ndarray:
        """Head-frame points (n, 3) in camera coordinates, mm."""
        return (points * TO_FLAME) @ self.rotation.T + self.translation

    def _box(self, points: np.ndarray, margin: int) -> tuple[int, int, int, int]:
        pixels = self.camera.project(self.camera_points(points))
        low = np.floor(pixels.min(0)).astype(int) - margin
        high = np.ceil(pixels.max(0)).astype(int) + margin + 1
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, [self.camera.width, self.camera.height])
        return int(x0), int(y0), int(max(x1, x0)), int(max(y1, y0))

    def _trace_static(self, background: np.ndarray) -> None:
        camera, actor = self.camera, self.actor
        h, w = camera.height, camera.width
        x0, y0, x1, y1 = self._box(actor.static_vertices, 2)
        self.box = (x0, y0, x1, y1)
        rays = self.grid[y0:y1, x0:x1].reshape(-1, 3)
        self.rays = rays @ self.to_head.T.astype(np.float32)
        body = rays @ self.to_body.T.astype(np.float32)
        back = np.repeat(background[y0:y1, x0:x1].reshape(-1, 3), 4, 0)
        colour, depth, label = self._static_colours(self.rays, body, back)
        self.colour, self.depth, self.label = colour, depth, label
        # the rest of the photo shows clothes and background: one ray per pixel
        linear = background.copy()
        labels = np.zeros((h, w), np.uint8)
        outside = np.ones((h, w), bool)
        outside[y0:y1, x0:x1] = False
        outside[: min(y0 + 20, h)] = False
        yy, xx = np.nonzero(outside)
        if yy.size:
            rays = self.grid[yy, xx].mean(1) @ self.to_body.T.astype(np.float32)
            colour, label = self._body_colours(rays, background[yy, xx])
            linear[yy, xx], labels[yy, xx] = colour, label
        self.linear, self.labels = linear, labels
        self._resolve(self.colour, self.label, (x0, y0, x1, y1), self.linear, self.labels)
        self.pixels = shading.develop(self.linear, self.light.exposure)

    def _resolve(self, colour, label, box, linear, labels) -> None:
        x0, y0, x1, y1 = box
        shape = (y1 - y0, x1 - x0)
        linear[y0:y1, x0:x1] = colour.reshape(*shape, 4, 3).mean(2)
        labels[y0:y1, x0:x1] = label.reshape(*shape, 4)[..., 1]

    def _body_colours(self, rays, back):
        actor = self.actor
        face, u, v, distance = trace(actor.body_tree, self.body_origin, rays)
        hit = np.flatnonzero(face >= 0)
        colour, label = back.copy(), np.zeros(len(rays), np.uint8)
        if hit.size:
            lights = shading.lights_in(self.light, self.to_body)
            surface = actor.body.at(face[hit], u[hit], v[hit])
            colour[hit] = shading.matte(surface, rays[hit], lights, 1.0)
            label[hit] = LABELS["clothes"]
        return colour, label

    def _static_colours(self, rays, body_rays, back):
        actor = self.actor
        face, u, v, distance = trace(actor.static_tree, self.origin, rays)
        colour, label = back.astype(np.float32), np.zeros(len(rays), np.uint8)
        missed = np.flatnonzero(face < 0)
        if missed.size:
            colour[missed], label[missed] = self._body_colours(
                np.ascontiguousarray(body_rays[missed]), back[missed]
            )
        hit = np.flatnonzero(face >= 0)
        lights = shading.lights_in(self.light, self.to_head)
        f, rays_hit = face[hit], rays[hit]
        surface = actor.static.at(f, u[hit], v[hit])
        point = self.origin.astype(np.float32) + rays_hit * distance[hit, None]
        shadow = shading.shadows(actor.shadow_tree, point, surface.normal, rays_hit, lights, hit)
        label[hit] = surface.label
        colour[hit] = shading.skin_or_hair(actor, surface, rays_hit, lights, shadow)
        return colour, distance, label

    def finish(self, eyes) -> Frame:
        """The photo for one gaze: ``eyes`` is a :class:`regaze.capture.actor.Eyes`."""
        pixels, labels = self.pixels.copy(), self.labels.copy()
        linear = None
        for side in range(2):
            x0, y0, x1, y1 = self._box(eyes.vertices[side], 1)
            bx0, by0, bx1, by1 = self.box
            x0, y0, x1, y1 = max(x0, bx0), max(y0, by0), min(x1, bx1), min(y1, by1)
            if x1 <= x0 or y1 <= y0:
                continue
            row = np.arange(y0 - by0, y1 - by0)[:, None] * (bx1 - bx0)
            index = (row + np.arange(x0 - bx0, x1 - bx0)).reshape(-1, 1) * 4 + np.arange(4)
            index = index.ravel()
            colour, label = shading.eye_colours(
                self, eyes, side, self.rays[index], self.colour[index], self.depth[index],
                self.label[index],
            )  # fmt: skip
            linear = np.empty((y1 - y0, x1 - x0, 3), np.float32)
            part = np.empty((y1 - y0, x1 - x0), np.uint8)
            self._resolve(colour, label, (0, 0, x1 - x0, y1 - y0), linear, part)
            pixels[y0:y1, x0:x1] = shading.develop(linear, self.light.exposure)
            labels[y0:y1, x0:x1] = part
        return Frame(pixels, labels)


def _partial(angles: np.ndarray, fraction: float) -> np.ndarray:
    from regaze.angles import rotation_from_angles

    return rotation_from_angles(np.asarray(angles) * fraction)
