"""Perspective ray casting of one person: static surfaces once per head pose, eyes once per frame.

Frames of a head pose differ in the eyes and lids alone, so skin, hair, glasses, clothes, shadows
and background are traced once per head pose, and a frame traces only the rays of the two eye
boxes against the lids and two analytic eyeballs. Rays run in the head's own frame (FLAME axes,
mm), where the geometry stands still and its Embree tree is built once per person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regaze.angles import rotation_from_angles
from regaze.capture import shading
from regaze.capture.eyes import eye_colours
from regaze.capture.parts import LABELS
from regaze.capture.rays import trace
from regaze.capture.scene import TO_FLAME, Camera, Light, Series

SUB = np.array([[-0.125, -0.375], [0.375, -0.125], [-0.375, 0.125], [0.125, 0.375]])
"""Offsets of the four rays of a pixel (rotated grid), pixels."""


def _resolved(colour, label, shape: tuple[int, int]):
    """Colours and labels of pixels (h, w) from those of their four rays."""
    return colour.reshape(*shape, 4, 3).mean(2), label.reshape(*shape, 4)[..., 1]


def _common(first, second) -> tuple[int, int, int, int]:
    """What two boxes x0, y0, x1, y1 have in common."""
    low, high = map(max, first[:2], second[:2]), map(min, first[2:], second[2:])
    return (*low, *high)


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
        # what a pixel is wide at the face, mm
        self.pixel = float(np.linalg.norm(t) / camera.parameters[0])
        self.lights = shading.lights_in(light, self.to_head)
        lean = series.rotation[head].T @ rotation_from_angles(0.45 * series.heads[head])
        self.to_body = TO_FLAME[:, None] * lean.T
        pivot = rotation @ (TO_FLAME * actor.neck) + t
        self.body_origin = self.to_body @ -pivot + actor.neck
        self._trace_static(background, series, head)

    def camera_points(self, points: np.ndarray) -> np.ndarray:
        """Head-frame points (n, 3) in camera coordinates, mm."""
        return (points * TO_FLAME) @ self.rotation.T + self.translation

    def _box(self, points: np.ndarray, margin: int) -> tuple[int, int, int, int]:
        """Pixels x0, y0, x1, y1 that hold camera points (n, 3), within the photo."""
        pixels = self.camera.project(points)
        low = np.floor(pixels.min(0)).astype(int) - margin
        high = np.ceil(pixels.max(0)).astype(int) + margin + 1
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, [self.camera.width, self.camera.height])
        return int(x0), int(y0), int(max(x1, x0)), int(max(y1, y0))

    def _trace_static(self, background: np.ndarray, series: Series, head: int) -> None:
        """Trace what does not move with the eyes: four rays a pixel in the face, two around it."""
        camera, actor = self.camera, self.actor
        h, w = camera.height, camera.width
        linear, labels = background.copy(), np.zeros((h, w), np.uint8)
        whole = self._box(self.camera_points(actor.static_vertices), 2)
        corners = np.array([[x, y, 0.0] for x in (-82, 82) for y in (-82, 82)])
        patch = series.centre[head] + corners @ series.rotation[head]
        face = self._box(patch, 2)
        self.box = x0, y0, x1, y1 = _common(face, whole)
        rays = self.grid[y0:y1, x0:x1].reshape(-1, 3)
        back = np.repeat(background[y0:y1, x0:x1].reshape(-1, 3), 4, 0)
        self.rays, self.colour, self.depth, self.label = self._static_colours(rays, back)
        self._trace_lenses(x1 - x0)
        inside, around = np.zeros((2, h, w), bool)
        inside[y0:y1, x0:x1] = True
        around[whole[1] : whole[3], whole[0] : whole[2]] = True
        area = _resolved(self._seen(self.colour), self.label, (y1 - y0, x1 - x0))
        linear[y0:y1, x0:x1], labels[y0:y1, x0:x1] = area
        yy, xx = np.nonzero(around & ~inside)
        if yy.size:
            rays = self.grid[yy, xx][:, [0, 3]].reshape(-1, 3)
            _, colour, _, label = self._static_colours(rays, np.repeat(background[yy, xx], 2, 0))
            linear[yy, xx] = colour.reshape(-1, 2, 3).mean(1)
            labels[yy, xx] = label[::2]
        # beyond hair and neck there are but clothes and background: one ray a pixel
        clothes = ~(around | inside)
        clothes[: y0 + 20] = False
        yy, xx = np.nonzero(clothes)
        if yy.size:
            rays = self.grid[yy, xx].mean(1)
            back = background[yy, xx].astype(np.float32)
            linear[yy, xx], labels[yy, xx], _ = self._body_colours(rays, back, None)
        self.labels = labels
        self.pixels = shading.develop(linear, self.light.exposure)

    def _trace_lenses(self, width: int) -> None:
        """Find the samples of the face, in rows of ``width`` pixels, that are behind lenses."""
        self.through = self.mirrored = None
        lenses = self.actor.lenses
        if lenses is None or not self.rays.size:
            return
        x0, y0, x1, y1 = _common(self._box(self.camera_points(lenses.vertices), 1), self.box)
        across = np.arange(4 * (x0 - self.box[0]), 4 * max(x1 - self.box[0], x0 - self.box[0]))
        down = np.arange(y0 - self.box[1], max(y1, y0) - self.box[1]) * 4 * width
        index = (down[:, None] + across).ravel()
        rows, through, light = lenses.over(
            self.origin, self.rays[index], self.depth[index], self.lights
        )
        self.through, self.mirrored = np.ones_like(self.colour), np.zeros_like(self.colour)
        self.through[index[rows]], self.mirrored[index[rows]] = through, light

    def _seen(self, colour, index=slice(None)):
        """Colours (n, 3) of samples of the face as seen through glasses."""
        if self.through is None:
            return colour
        return colour * self.through[index] + self.mirrored[index]

    def _body_colours(self, rays, behind, limit):
        """Clothes over ``behind`` (n, 3) where nearer than ``limit`` (n,); rays in camera axes."""
        actor = self.actor
        turned = np.ascontiguousarray(rays @ self.to_body.T.astype(np.float32))
        face, u, v, distance = trace(actor.body_tree, self.body_origin, turned)
        hit = np.flatnonzero(face >= 0 if limit is None else distance < limit)
        colour, label = behind.copy(), np.zeros(len(rays), np.uint8)
        if hit.size:
            lights = shading.lights_in(self.light, self.to_body)
            surface = actor.body.at(face[hit], u[hit], v[hit])
            colour[hit] = shading.matte(surface, turned[hit], lights, 1.0)
            label[hit] = LABELS["clothes"]
        return colour, label, hit

    def _static_colours(self, camera_rays, back):
        """Rays in head axes, colours, distances and labels for rays (n, 3) in camera axes."""
        actor = self.actor
        rays = np.ascontiguousarray(camera_rays @ self.to_head.T.astype(np.float32))
        face, u, v, distance = trace(actor.static_tree, self.origin, rays)
        colour, label = back.astype(np.float32), np.zeros(len(rays), np.uint8)
        hit = np.flatnonzero(face >= 0)
        lights = self.lights
        f, rays_hit = face[hit], rays[hit]
        surface = actor.static.at(f, u[hit], v[hit])
        point = self.origin.astype(np.float32) + rays_hit * distance[hit, None]
        shadow = shading.shadows(actor.closed_tree, point, surface.normal, rays_hit, lights, hit)
        label[hit] = surface.label
        colour[hit] = shading.skin_or_hair(actor, surface, rays_hit, lights, shadow)
        # clothes can only be nearer than the neck and what hangs beside it
        low = np.ones(len(rays), bool)
        low[hit[point[:, 1] > -118]] = False
        low = np.flatnonzero(low)
        if low.size:
            over, worn, seen = self._body_colours(camera_rays[low], colour[low], distance[low])
            colour[low] = over
            label[low[seen]] = worn[seen]
        return rays, colour, distance, label

    def finish(self, eyes) -> Frame:
        """The photo for one gaze: ``eyes`` is a :class:`regaze.capture.actor.Eyes`."""
        pixels, labels = self.pixels.copy(), self.labels.copy()
        bx0, by0, bx1, by1 = self.box
        boxes, indices = [], []
        points = self.camera_points(eyes.vertices)
        for side in range(2):
            x0, y0, x1, y1 = _common(self._box(points[self.actor.eye_side == side], 1), self.box)
            x1, y1 = max(x1, x0), max(y1, y0)
            row = np.arange(y0 - by0, y1 - by0)[:, None] * (bx1 - bx0)
            index = (row + np.arange(x0 - bx0, x1 - bx0)).reshape(-1, 1) * 4 + np.arange(4)
            boxes.append((x0, y0, x1, y1))
            indices.append(index.ravel())
        index = np.concatenate(indices)
        side = np.repeat([0, 1], [len(part) for part in indices])
        rays = self.rays[index]
        colour, label = eye_colours(
            self, eyes, side, rays, self.colour[index], self.depth[index], self.label[index]
        )
        colour = self._seen(colour, index)
        for number, (x0, y0, x1, y1) in enumerate(boxes):
            mine = side == number
            if mine.any():
                area, mask = _resolved(colour[mine], label[mine], (y1 - y0, x1 - x0))
                pixels[y0:y1, x0:x1] = shading.develop(area, self.light.exposure)
                labels[y0:y1, x0:x1] = mask
        return Frame(pixels, labels)
