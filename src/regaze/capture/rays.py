"""Rays against triangles: Embree's scenes, built once per mesh."""

from __future__ import annotations

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh


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
