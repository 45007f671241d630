"""The 68 iBUG landmarks of the template as triangles and barycentric weights."""

from __future__ import annotations

import numpy as np

from regaze.capture import surface
from regaze.capture.template import Template

_JAW_U = np.array([-108, -109, -107, -103, -96, -82, -60, -31])
_JAW_V = np.array([-8, -28, -48, -68, -86, -99, -106, -110])
_JAW = np.concatenate([_JAW_U, [0], -_JAW_U[::-1]]), np.concatenate([_JAW_V, [-111], _JAW_V[::-1]])
"""Where the contour's 17 points are on the template, u and v."""
_BROW = [(48, 11), (41, 16.5), (32, 19), (23, 18.5), (14, 15.5)]
_NOSE = [(0, 6), (0, -9), (0, -23), (0, -36)]
_BASE = [(-12.5, -46.5), (-6.5, -50), (0, -51.5), (6.5, -50), (12.5, -46.5)]
_LIPS = [
    (-24.5, -73), (-15, -67.3), (-5, -64.8), (0, -66), (5, -64.8), (15, -67.3), (24.5, -73),
    (15, -80.5), (6, -83.6), (0, -84.2), (-6, -83.6), (-15, -80.5),
]  # fmt: skip
_INNER = [(-21, 0), (-9, 0), (0, 0), (9, 0), (21, 0), (9, 1), (0, 1), (-9, 1)]
_EYE_TURN = {"right": (0, 60, 120, 180, 240, 300), "left": (180, 120, 60, 0, 300, 240)}


def gather(model, vertices: np.ndarray) -> np.ndarray:
    """The 68 full landmarks (68, 3) of a head model on given vertices (V, 3)."""
    corners = vertices[model.f[model.full_lmk_faces_idx[0]]]
    return np.einsum("lk,lkd->ld", model.full_lmk_bary_coords[0].astype(np.float64), corners)


def _margin(template: Template, side: int) -> tuple[np.ndarray, np.ndarray]:
    plan, kept = template.plan, template.kept
    rows = np.flatnonzero((plan.eye[kept] == side) & (plan.ring[kept] == 0))
    return rows, np.degrees(plan.angle[kept][rows])


def corner_rows(template: Template) -> np.ndarray:
    """Vertex rows of the outer and inner corners of both eyes (landmarks 36, 39, 42, 45)."""
    out = []
    for side, turns in ((-1, (0, 180)), (1, (180, 0))):
        rows, angle = _margin(template, side)
        out += [rows[np.argmin(np.abs(angle - turn))] for turn in turns]
    return np.array(out)


def _point_triangle(points, corners):
    """For each point (n, 2) the triangle (m, 3, 2) holding it and its barycentric weights."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    safe = np.where(np.abs(area) < 1e-9, np.inf, area)
    ap = points[:, None] - a
    v = (ap[..., 0] * ac[:, 1] - ap[..., 1] * ac[:, 0]) / safe
    w = (ab[:, 0] * ap[..., 1] - ab[:, 1] * ap[..., 0]) / safe
    weights = np.stack([1 - v - w, v, w], -1)
    best = np.where(np.isinf(safe), -np.inf, weights.min(-1)).argmax(1)
    bary = np.clip(weights[np.arange(len(points)), best], 0, None)
    return best, bary / bary.sum(1, keepdims=True)


def corners_at(faces: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (n,) that hold vertices (n,), and one-hot weights (n, 3).

    Raises:
        ValueError: a vertex is in no triangle.
    """
    ids, weights = [], []
    for row in rows:
        where = np.argwhere(faces == row)
        if not len(where):
            raise ValueError(f"landmarks: vertex {row} of the converted mesh is in no polygon")
        ids.append(where[0, 0])
        weights.append(np.eye(3)[where[0, 1]])
    return np.array(ids, np.int64), np.array(weights)


YAW_ROWS = np.concatenate([np.arange(40), -np.arange(1, 40)])
"""Yaw in degrees of every row of a contour table, in the order FLAME's layer looks rows up."""


def contour(u, v, skin: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contour landmarks for turns of the head about y: silhouette points of the turned skin.

    Args:
        u, v: (n,) mm template coordinates of the skin points.
        skin: (n, 3) their positions, skin points being the first vertices of the mesh.
        faces: (F, 3) triangles of the mesh.

    Returns:
        Triangles (79, 17) and barycentric weights (79, 17, 3); rows as ``YAW_ROWS``.
    """
    ids = np.zeros((79, 17), np.int64)
    weights = np.zeros((79, 17, 3), np.float32)
    first_face = np.full(len(skin), -1)
    for corner in range(3):
        column = faces[:, corner]
        inside = column < len(skin)
        first_face[column[inside]] = np.flatnonzero(inside)
    for row, yaw in enumerate(np.radians(YAW_ROWS)):
        across = skin[:, 0] * np.cos(yaw) + skin[:, 2] * np.sin(yaw)
        for point, (still, height) in enumerate(zip(*_JAW, strict=True)):
            off, side = np.abs(v - height), np.sign(still)
            if side == 0:
                score = -np.abs(u) - off
            else:
                # the outermost skin of this row on this side, not behind the jaw's own line
                ahead = (off < 4.5) & (side * u > 0) & (np.abs(u) <= abs(still) + 8)
                score = np.where(ahead, side * across, -np.inf)
            best = int(np.argmax(score))
            ids[row, point] = first_face[best]
            weights[row, point, faces[first_face[best]].tolist().index(best)] = 1
    return ids, weights


def embed(template: Template, rest: np.ndarray) -> dict[str, np.ndarray]:
    """FLAME's landmark arrays: static (51), dynamic (79 x 17) and full (1 x 68)."""
    plan, kept = template.plan, template.kept
    plane = np.stack([plan.u, plan.v], -1)[template.chart_plan]
    jaw = _point_triangle(np.stack(_JAW, -1), plane)
    right_brow = [(-x, y) for x, y in _BROW]
    named = right_brow + _BROW[::-1] + _NOSE + _BASE
    spots = np.stack(surface.inverse(*np.array(named, float).T), -1)
    front = _point_triangle(spots, plane)
    eyes = []
    for word, number in (("right", -1), ("left", 1)):
        rows, angle = _margin(template, number)
        turns = _EYE_TURN[word]
        eyes += [rows[np.argmin(np.abs((angle - t + 180) % 360 - 180))] for t in turns]
    eyes = corners_at(template.faces, eyes)
    lips = _point_triangle(np.stack(surface.inverse(*np.array(_LIPS, float).T), -1), plane)
    on_line = np.abs(plan.xy[kept, 1] - surface.MOUTH_Y) < 0.4
    lower = plan.lower_lip[kept]
    near = np.abs(plan.u[kept]) < 40
    inner = []
    for x, below in _INNER:
        rows = np.flatnonzero(on_line & near & (lower == bool(below)))
        inner.append(rows[np.argmin(np.abs(plan.xy[kept][rows, 0] - x))])
    inner = corners_at(template.faces, inner)
    faces, bary = map(np.concatenate, zip(jaw, front, eyes, lips, inner, strict=True))
    skin = rest[template.parts["skin"]]
    moving_faces, moving_bary = contour(plan.u[kept], plan.v[kept], skin, template.faces)
    return {
        "static_lmk_faces_idx": faces[17:].astype(np.int64),
        "static_lmk_bary_coords": bary[17:].astype(np.float64),
        "dynamic_lmk_faces_idx": moving_faces,
        "dynamic_lmk_bary_coords": moving_bary,
        "full_lmk_faces_idx": faces[None].astype(np.int64),
        "full_lmk_bary_coords": bary[None].astype(np.float32),
    }
