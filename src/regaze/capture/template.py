"""Assembly of the template mesh: which points exist, their weights, charts, regions, landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from regaze.capture import surface, topology

REGIONS = ("skin", "lids", "lips", "neck", "ears", "inner_eye", "mouth", "left_eye", "right_eye")
"""Names of the values of ``FlameModel.regions``."""
SKIN_CHART = 0.86
"""The skin's chart takes texture rows v in [0, SKIN_CHART]; small charts lie above it."""


_PARTS = {"skin": 0, "left_ear": 4, "right_ear": 4, "left_lining": 5, "right_lining": 5,
          "mouth_bag": 6, "left_eye": 7, "right_eye": 8}  # fmt: skip
"""Parts of the mesh in their order, and their regions; the skin has several."""


@dataclass(frozen=True)
class Template:
    """The template and the maker of its variants; ``kept`` are the plan points in the mesh."""

    plan: topology.Plan
    kept: np.ndarray
    faces: np.ndarray
    uvcoords: np.ndarray
    uvfaces: np.ndarray
    regions: np.ndarray
    parts: dict[str, slice]
    ball: np.ndarray
    plane: np.ndarray
    chart_plan: np.ndarray

    def positions(self, sizes: dict[str, float] | None = None) -> np.ndarray:
        """Vertices (V, 3) in mm for semantic sizes (see ``surface.SIZES``)."""
        centre = surface.eye_centre(sizes)
        flip = np.array([-1.0, 1, 1])
        ear = surface.ear_positions(topology.EAR_RINGS, topology.EAR_POINTS, sizes)
        lining = self.ball * [16.2, 8.5, 5.4]
        bag_depth = np.array([17.5, 8.0, 7.0]) * (1 + (sizes or {}).get("mouth_width", 0))
        skin = surface.skin_positions(self.plan, sizes)
        line = skin[self.plan.lower_lip].mean(0)
        bag = self.ball * bag_depth + [0, line[1], line[2] - 12.5]
        skin = skin[self.kept]
        ball = self.ball * surface.RADIUS
        linings, balls = ([shell + centre, shell + centre * flip] for shell in (lining, ball))
        return np.concatenate([skin, ear, ear * flip, *linings, bag, *balls])


def plane_to_chart(u, v):
    """Skin plane (mm) to texture coordinates (.., 2); the face gets most of the texture."""
    s = np.tanh(1.9 * np.asarray(u) / surface.U_MAX) / np.tanh(1.9)
    t = np.tanh(1.3 * (np.asarray(v) + 30.0) / 180.0) / np.tanh(1.3)
    return np.stack([0.5 + 0.5 * s, SKIN_CHART * (0.5 + 0.498 * t)], -1)


def chart_to_plane(uv):
    """Inverse of :func:`plane_to_chart` for texture coordinates (.., 2) of the skin's chart."""
    s = np.clip((uv[..., 0] - 0.5) / 0.5, -1, 1) * np.tanh(1.9)
    t = np.clip((uv[..., 1] / SKIN_CHART - 0.5) / 0.498, -1, 1) * np.tanh(1.3)
    height = np.arctanh(np.clip(t, -0.999, 0.999)) * 180 / 1.3 - 30
    return np.arctanh(s) * surface.U_MAX / 1.9, height


def small_chart(index: int, chart: np.ndarray) -> np.ndarray:
    """A chart (n, 2) in [0, 1] moved to the place of that number above the skin's chart."""
    return np.array([0.005 + index * 0.142, SKIN_CHART + 0.005]) + 0.13 * chart


def on_lips(u, x, y) -> np.ndarray:
    """Which skin points (n,) are lips, by ``u`` and frontal template positions in mm."""
    lip = np.clip(1 - (np.abs(x) / (surface.MOUTH_HALF + 1)) ** 2.2, 0, None)
    return (np.abs(u) < 60) & (y > surface.MOUTH_Y - 11 * lip) & (y < surface.MOUTH_Y + 8 * lip)


def build(step: float, ball_rings: int, ball_around: int) -> Template:
    """Make the template for a point spacing in mm and an eyeball resolution."""
    plan, triangles, weld = topology.skin_plan(step)
    welded = weld[triangles]
    flat = (welded == np.roll(welded, 1, 1)).any(1)
    triangles, welded = triangles[~flat], welded[~flat]
    kept, inverse = np.unique(welded, return_inverse=True)
    faces = inverse.reshape(-1, 3)
    ball, ball_faces, ball_chart = topology.eyeball(ball_rings, ball_around)
    ear_faces = topology.ear_triangles()
    n_ear = ear_faces.max() + 1
    start = np.cumsum([0, len(kept), n_ear, n_ear, *[len(ball)] * 5])
    parts = {n: slice(*map(int, ends)) for n, ends in zip(_PARTS, pairwise(start), strict=True)}
    locals_ = [faces, ear_faces, ear_faces[:, ::-1], *[ball_faces] * 5]
    all_faces = np.concatenate([f + s for f, s in zip(locals_, start, strict=False)])
    # charts
    t = np.arange(topology.EAR_POINTS) * 2 * np.pi / topology.EAR_POINTS
    r = (np.arange(topology.EAR_RINGS) + 1) / topology.EAR_RINGS
    disc = np.stack([np.outer(r, np.cos(t)).ravel(), np.outer(r, np.sin(t)).ravel()], -1)
    ear_chart = 0.5 + 0.48 * np.concatenate([disc, [[0, 0]]])
    small = [ear_chart, ear_chart, *[ball_chart] * 5]
    charts = [plane_to_chart(plan.u, plan.v), *map(small_chart, range(7), small)]
    uv_start = np.cumsum([0, *map(len, charts)])
    own = [triangles, *locals_[1:]]
    uvfaces = [rows + first for rows, first in zip(own, uv_start, strict=False)]
    regions = np.zeros(start[-1], np.uint8)
    skin = regions[: len(kept)]
    skin[plan.v[kept] < -118] = 3
    skin[on_lips(plan.u[kept], *plan.xy[kept].T)] = 2
    skin[plan.ring[kept] < 1.2] = 1
    for name, value in _PARTS.items():
        if value:
            regions[parts[name]] = value
    return Template(
        plan=plan,
        kept=kept,
        faces=all_faces.astype(np.int64),
        uvcoords=np.concatenate(charts).astype(np.float32),
        uvfaces=np.concatenate(uvfaces).astype(np.int64),
        regions=regions,
        parts=parts,
        ball=ball,
        plane=np.stack([plan.u[kept], plan.v[kept]], -1),
        chart_plan=triangles,
    )


def skinning(template: Template) -> np.ndarray:
    """Weights (V, 5) of root, neck, jaw, left eye, right eye; rows sum to one."""
    parts, plan, kept = template.parts, template.plan, template.kept
    weights = np.zeros((len(template.regions), 5))
    v0, (x0, y0) = plan.v[kept], plan.xy[kept].T
    u0 = plan.u[kept]
    root = surface.smoothstep(v0, -140, -190)
    below = surface.smoothstep(y0, surface.MOUTH_Y + 4, surface.MOUTH_Y - 5)
    # the corner of the mouth: lips part sharply, cheeks stretch
    cheek = surface.smoothstep(y0, -45, -95)
    mixed = np.where(np.abs(x0) < surface.MOUTH_HALF, below, cheek)
    blend = surface.smoothstep(np.abs(x0), surface.MOUTH_HALF - 4, surface.MOUTH_HALF + 14)
    on_line = np.abs(y0 - surface.MOUTH_Y) < 0.4
    inner = np.where(on_line, plan.lower_lip[kept].astype(float), mixed)
    jaw = inner * (1 - blend) + cheek * blend
    jaw = jaw * surface.smoothstep(v0, -135, -114) * surface.smoothstep(np.abs(u0), 118, 92)
    follows = jaw * (1 - root)
    weights[parts["skin"], :3] = np.stack([root, 1 - root - follows, follows], -1)
    for name in ("left_ear", "right_ear", "left_lining", "right_lining"):
        weights[parts[name], 1] = 1
    weights[parts["mouth_bag"], 1:3] = 0.5
    weights[parts["left_eye"], 3] = 1
    weights[parts["right_eye"], 4] = 1
    return weights


def regressor(template: Template) -> np.ndarray:
    """Joint regressor (5, V): eye rows uniform over each eyeball, the others over rings."""
    parts, plan, kept = template.parts, template.plan, template.kept
    rows = np.zeros((5, len(template.regions)))
    u0, v0 = plan.u[kept], plan.v[kept]
    neck = v0 < -175, (v0 > -150) & (v0 < -132)
    hinge = (np.abs(np.abs(u0) - 108) < 14) & (np.abs(v0 + 22) < 12)
    for row, members in enumerate((*neck, hinge)):
        rows[row, : len(kept)] = members / members.sum()
    rows[3, parts["left_eye"]] = rows[4, parts["right_eye"]] = 1.0 / len(template.ball)
    return rows
