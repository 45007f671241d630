"""Lenses of glasses: what they let through of the person and mirror of the surroundings."""

from __future__ import annotations

import numpy as np

from regaze.capture import parts
from regaze.capture.lamps import fresnel, mirrored
from regaze.capture.rays import trace, tree
from regaze.capture.shading import dot
from regaze.capture.style import Lenses


class LensPair:
    """Two lenses within the rims of a person's glasses, head frame, mm.

    Lenses are clear: labels are those of what is seen through them.
    """

    def __init__(self, lenses: Lenses, rims: list[np.ndarray]):
        self.lenses = lenses
        self.middle = np.array([rim.mean(0) for rim in rims], np.float32)
        fans = []
        for rim, middle in zip(rims, self.middle, strict=True):
            count = np.arange(len(rim))
            points = np.concatenate([rim, middle[None]])
            fan = np.stack([count, np.roll(count, -1), np.full(len(rim), len(rim))], -1)
            fans.append((points, fan))
        self.vertices, self.faces = parts.joined(fans)
        self.half = len(rims[0])
        self.tree = tree(self.vertices, self.faces)

    def over(self, origin, rays, depth, lights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which rays (n, 3) meet a lens before ``depth`` (n,): rows (k,), factors and light (k, 3).

        The colour behind a lens is multiplied by the factors, then the light is added.
        """
        face, _, _, distance = trace(self.tree, origin, rays)
        rows = np.flatnonzero(distance < depth)
        rays = rays[rows]
        point = origin.astype(np.float32) + rays * distance[rows, None]
        local = point - self.middle[(face[rows] >= self.half).astype(int)]
        # bent like a ball about a point behind the head, and leant forward at the top
        normal = np.stack([local[:, 0], local[:, 1], np.zeros(len(rows))], -1) / self.lenses.radius
        normal += np.array([0.0, -0.12, 1.0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        cosine = np.abs(dot(normal, rays))
        mirror = (rays - 2 * dot(normal, rays)[:, None] * normal).astype(np.float32)
        share = self.lenses.gloss * np.minimum(fresnel(cosine, 0.045), 0.3)
        light = np.minimum(share[:, None] * mirrored(lights.lamps, lights, mirror), 2.5)
        through = self.lenses.through * (1 - share)[:, None]
        return rows, through.astype(np.float32), light.astype(np.float32)
