"""The template's points and triangles: skin plane, lids, mouth slit, ears, eyeballs, charts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay

from regaze.capture import surface
from regaze.capture.parts import lattice

EAR_RINGS, EAR_POINTS = 8, 22


@dataclass(frozen=True)
class Plan:
    """Skin points of the template: plane coordinates and what they belong to (arrays (n,))."""

    u: np.ndarray
    v: np.ndarray
    xy: np.ndarray
    eye: np.ndarray
    ring: np.ndarray
    angle: np.ndarray
    lid_blend: np.ndarray
    lower_lip: np.ndarray


def _rows(u_low, u_high, v_low, v_high, step):
    """Staggered rows of points, symmetric about u = 0."""
    rows = []
    for index, v in enumerate(np.arange(v_low, v_high + 1e-6, step * 0.88)):
        half = np.arange(0.5 * step * (index % 2), u_high + 1e-6, step)
        half = half[half >= u_low]
        u = np.concatenate([-half[half > 0][::-1], half])
        rows.append(np.stack([u, np.full(u.size, v)], -1))
    return np.concatenate(rows)


def _inside(points, outline):
    """Which points (n, 2) lie inside the closed polygon ``outline`` (m, 2)."""
    x, y = points[:, :1], points[:, 1:]
    x0, y0 = outline.T
    x1, y1 = np.roll(outline, -1, 0).T
    crosses = (y0 > y) != (y1 > y)
    slope = np.where(y1 == y0, 1e-9, y1 - y0)
    return (crosses & (x < (x1 - x0) * (y - y0) / slope + x0)).sum(1) % 2 == 1


def _eye_ring(k, count):
    """Frontal positions (count, 2) about the left eye at ring offset ``k``, and their angles."""
    t = np.arange(count) * 2 * np.pi / count
    return surface.EYE + np.stack(surface.almond(t, k), -1), t


def skin_plan(step: float) -> tuple[Plan, np.ndarray, np.ndarray]:
    """Return skin points, triangles (F, 3) counter-clockwise outside, and the welding (n,).

    The welding names for every point the one that stands for it in the mesh: points of the back
    seam and of the crown coincide in space but not in the chart.

    Args:
        step: spacing of the points of the face in mm; nose and mouth take half of it.
    """
    s = surface
    coarse = _rows(0, s.U_MAX - step, s.V_BOTTOM, s.V_TOP - 1.5 * step, 1.9 * step)
    middle = _rows(0, 104, -122, 60, step)
    nose = _rows(0, 24, -60, 12, 0.55 * step)
    mouth = _rows(0, 34, -86, -61, 0.55 * step)
    coarse = coarse[~((np.abs(coarse[:, 0]) < 106) & (coarse[:, 1] > -124) & (coarse[:, 1] < 62))]
    in_nose = (np.abs(middle[:, 0]) < 25) & (middle[:, 1] > -61.5) & (middle[:, 1] < 13)
    in_mouth = (np.abs(middle[:, 0]) < 35) & (middle[:, 1] > -87) & (middle[:, 1] < -60)
    middle = middle[~(in_nose | in_mouth)]
    plane = np.concatenate([coarse, middle, nose[nose[:, 1] > -60], mouth[mouth[:, 1] < -61]])
    # points of the mouth line replace those near it
    count = 25
    line = np.linspace(-s.MOUTH_HALF, s.MOUTH_HALF, count)
    lu, lv = s.inverse(line, np.full(count, s.MOUTH_Y))
    xy = s.base(plane[:, 0], plane[:, 1])[:, :2]
    near_line = np.abs(xy[:, 1] - s.MOUTH_Y) < 1.5
    near_line &= np.abs(xy[:, 0]) < s.MOUTH_HALF + 1.5
    outline, _ = _eye_ring(2.55, 80)
    near_eye = _inside(xy, outline) | _inside(xy, outline * [-1, 1])
    plane = plane[~((np.abs(plane[:, 0]) < 90) & (near_line | near_eye))]
    rings, angles = zip(*(_eye_ring(k, s.RING_POINTS) for k in s.RINGS), strict=True)
    ks, ts = np.repeat(s.RINGS, s.RING_POINTS), np.concatenate(angles)
    eu, ev = s.inverse(*np.concatenate(rings).T)
    edge_v = np.arange(s.V_BOTTOM, s.V_TOP - step, 1.5 * step)
    edges = [np.stack([np.full(edge_v.size, end), edge_v], -1) for end in (-s.U_MAX, s.U_MAX)]
    top_u = np.linspace(-s.U_MAX, s.U_MAX, 41)
    top = np.stack([top_u, np.full(top_u.size, s.V_TOP)], -1)
    eyes = [np.stack([eu, ev], -1), np.stack([-eu, ev], -1)]
    pieces = [plane, np.concatenate(edges), top, np.stack([lu, lv], -1), *eyes]
    uv = np.concatenate(pieces)
    start = np.cumsum([0] + [len(piece) for piece in pieces])
    eye = np.zeros(len(uv))
    ring, angle = np.full(len(uv), 9.0), np.zeros(len(uv))
    eye[start[4] : start[5]], eye[start[5] : start[6]] = 1, -1
    ring[start[4] :], angle[start[4] :] = np.tile(ks, 2), np.tile(ts, 2)
    triangles = Delaunay(uv).simplices
    a, b, c = (uv[triangles[:, i]] for i in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles[area < 0] = triangles[area < 0][:, ::-1]
    triangles = triangles[np.abs(area) > 1e-6]
    inner = ring == s.RINGS[0]
    hole = inner[triangles].all(1) & (np.abs(eye[triangles].sum(1)) == 3)
    triangles = triangles[~hole]
    # the slit: triangles below the mouth line take their own copies of its inner points
    line_ids = np.arange(start[3] + 1, start[4] - 1)
    copies = np.full(len(uv), -1)
    copies[line_ids] = len(uv) + np.arange(line_ids.size)
    xy = s.base(uv[:, 0], uv[:, 1])[:, :2]
    below = (xy[triangles, 1].mean(1) < s.MOUTH_Y)[:, None] & (copies[triangles] >= 0)
    triangles = np.where(below, copies[triangles], triangles)
    take = np.concatenate([np.arange(len(uv)), line_ids])
    lower_lip = np.arange(len(take)) >= len(uv)
    # weld the back seam and the crown: the uv chart keeps the seam, the mesh does not
    weld = np.arange(len(take))
    left = np.arange(start[1], start[1] + edge_v.size)
    weld[left + edge_v.size] = left
    weld[start[2] : start[3]] = start[2]
    plan = Plan(
        u=uv[take, 0],
        v=uv[take, 1],
        xy=xy[take],
        eye=eye[take],
        ring=ring[take],
        angle=angle[take],
        lid_blend=surface.smoothstep(ring[take], 2.6, 1.2),
        lower_lip=lower_lip,
    )
    return plan, triangles, weld


def ear_triangles() -> np.ndarray:
    """Triangles of one ear's rings (both windings serve: an ear is a closed-looking dish)."""
    first = np.arange(EAR_POINTS)
    fan = np.stack([0 * first + EAR_RINGS * EAR_POINTS, first, np.roll(first, -1)], -1)
    return np.concatenate([lattice(EAR_RINGS, EAR_POINTS, closed=True), fan])


def disc_chart(rays: np.ndarray) -> np.ndarray:
    """Chart (n, 2) in [0, 1] of unit vectors (n, 3): a disc about +z, by their angles from it."""
    radius = np.arccos(np.clip(rays[:, 2], -1, 1)) / np.pi * 0.5
    turn = np.arctan2(rays[:, 1], rays[:, 0])
    return np.stack([0.5 + radius * np.cos(turn), 0.5 + radius * np.sin(turn)], -1)


def eyeball(rings: int, around: int):
    """A closed unit sphere about the +z pole: vertices (n, 3), triangles, chart (n, 2) in [0, 1].

    Rings are denser at the poles, with one on the pupil's edge (10 degrees) and one on the limbus
    (29), and symmetric about the equator.
    """
    middle = np.linspace(29.0, 151.0, rings)[1:-1]
    # the same rings behind as in front: the mean of all vertices is then the centre exactly
    polar = np.concatenate([[10, 20, 29], middle, [151, 160, 170]]) * np.pi / 180
    phi = np.arange(around) * 2 * np.pi / around
    across, up = np.sin(polar)[:, None], np.cos(polar)[:, None]
    body = np.stack([across * np.cos(phi), across * np.sin(phi), up + 0 * phi], -1)
    vertices = np.concatenate([[[0, 0, 1.0]], body.reshape(-1, 3), [[0, 0, -1.0]]])
    first, last = 1 + np.arange(around), len(vertices) - 1
    end = last - around + np.arange(around)
    front = np.stack([0 * first, first, np.roll(first, -1)], -1)
    back = np.stack([0 * end + last, np.roll(end, -1), end], -1)
    triangles = np.concatenate([front, 1 + lattice(polar.size, around, closed=True), back])
    return vertices, triangles, disc_chart(vertices)
