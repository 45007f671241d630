"""Colours of lids and eyeballs: what a frame traces anew for its gaze."""

from __future__ import annotations

import numpy as np

from regaze.capture import surface
from regaze.capture.irises import LIMBUS, styled_ball
from regaze.capture.lamps import fresnel, mirrored
from regaze.capture.parts import LABELS
from regaze.capture.rays import trace, tree
from regaze.capture.shading import ambient, dot, shadows, skin_or_hair


def eye_colours(view, eyes, side, rays, behind, depth, label):
    """Colours and labels of samples in the eye boxes for one gaze.

    The nearest of three things wins: what was traced before (nose, glasses, hair), the lids'
    triangles, and the eyeball, a sphere with an iris about its axis.

    Args:
        view, eyes: a ``renderer.View`` and an ``actor.Eyes``.
        side: (n,) 0 for the box of the subject's left eye, 1 for the right.
        rays: (n, 3) head axes; ``behind`` (n, 3), ``depth`` (n,), ``label`` (n,) traced before.
    """
    actor = view.actor
    face, u, v, distance = trace(eyes.tree, view.origin, rays)
    lights = view.lights
    o = (view.origin - eyes.centres).astype(np.float32)[side]
    b = dot(rays, o)
    gap = b * b - dot(o, o) + np.float32(actor.radius**2)
    ball = np.where(gap > 0, -b - np.sqrt(np.maximum(gap, 0)), np.inf).astype(np.float32)
    near = np.flatnonzero(np.minimum(depth, distance) > ball)
    spot = view.origin.astype(np.float32) + rays[near] * ball[near, None]
    opening = _opening(eyes.margins, side[near], spot)
    # the socket's skin hides the ball wherever the lids' edges say so
    out = (opening[0] < -1.5) | (opening[1] < -1.5) | (opening[2] < -1.0)
    ball[near[out]] = np.inf
    colour, label = behind.copy(), label.copy()
    lid = np.flatnonzero((distance < depth) & (distance <= ball))
    if lid.size:
        hits = eyes.surface.at(face[lid], u[lid], v[lid])
        point = view.origin.astype(np.float32) + rays[lid] * distance[lid, None]
        shadow = shadows(actor.shadow_tree, point, hits.normal, rays[lid], lights, lid)
        _make_up(actor.look, actor.style.creases, hits)
        colour[lid] = skin_or_hair(actor, hits, rays[lid], lights, shadow)
        label[lid] = LABELS["skin"]
    seen = near[~out]
    if seen.size:
        opening = tuple(part[~out] for part in opening)
        colour[seen] = _ball(view, eyes, side[seen], rays[seen], spot[~out], opening, seen)
        label[seen] = np.where(side[seen] == 0, LABELS["left_eye"], LABELS["right_eye"])
    if actor.lash_line is not None:
        _cover_by_lashes(view, eyes, rays, np.minimum(np.minimum(depth, distance), ball), colour)
    return colour, label


def _cover_by_lashes(view, eyes, rays, depth, colour) -> None:
    """Darken samples in place where a lash is nearer than what they show, (n,) mm away.

    Labels stay those of what is behind: a lash is thinner than a pixel.
    """
    line, look = view.actor.lash_line, view.actor.look
    points, cover = line.drawn(eyes.vertices, view.pixel)
    face, u, v, distance = trace(tree(points, line.faces), view.origin, rays)
    hit = np.flatnonzero(distance < depth)
    a, b, c = cover[line.faces[face[hit]]].T
    share = a + u[hit] * (b - a) + v[hit] * (c - a)
    dark = 0.25 * look.brow_colour * view.lights.sky
    colour[hit] += share[:, None] * (dark - colour[hit])


def _opening(margins, side, point):
    """How far points (n, 3) are below the upper lid, above the lower one, from the corners, mm."""
    above, below, reach = (np.empty(len(point), np.float32) for _ in range(3))
    for number, margin in enumerate(margins):
        mine = side == number
        x, y = point[mine, 0], point[mine, 1]
        order = margin[np.argsort(margin[:, 0])]
        middle = margin[:, 1].mean()
        top, low = order[order[:, 1] >= middle], order[order[:, 1] < middle]
        above[mine] = np.interp(x, top[:, 0], top[:, 1]) - y
        below[mine] = y - np.interp(x, low[:, 0], low[:, 1])
        reach[mine] = np.minimum(x - order[0, 0], order[-1, 0] - x)
    return above, below, reach


def _make_up(look, creases, hits) -> None:
    """Lash line, wet edge and crease on lid hits, in place; ``extra`` holds ring and lid."""
    ring, side = hits.extra[:, 0], hits.extra[:, 1]
    upper = surface.smoothstep(side, -0.35, 0.35)
    lining = ring > 15
    lower_lash = 0.40 * look.lashes + 0.4 * look.liner
    lash = lower_lash + (look.lashes - lower_lash) * upper
    width = 0.20 + (0.16 + 0.14 * look.liner) * upper
    line = lash * surface.smoothstep(ring, width + 0.20, width * 0.4)
    line = np.where(ring < -0.06, line * (0.35 + 0.55 * upper), line)
    depth, place = (0.22, 0.95) if creases is None else (creases.lid, creases.lid_ring)
    crease = depth * upper * np.exp(-0.5 * ((ring - place) / 0.2) ** 2)
    shadow = 0.28 * look.liner * upper * surface.smoothstep(ring, 1.6, 0.4)
    wet = surface.smoothstep(ring, 0.02, -0.1) * (1 - upper)
    albedo = hits.albedo
    keep = ~lining
    pink = np.array([1.0, 0.72, 0.70], np.float32)
    factor = (1 - line) * (1 - crease) * (1 - shadow)
    albedo[keep] *= factor[keep, None].astype(np.float32)
    albedo[keep] *= 1 + wet[keep, None] * (pink - 1)
    hits.gloss[keep] *= 1 - 0.7 * line[keep].astype(np.float32)


def _ball(view, eyes, side, rays, point, opening, sample):
    """Colours of eyeball hits: sclera, limbus, iris with fibres, pupil, highlight."""
    actor, look, lights = view.actor, view.actor.look, view.lights
    local = point - eyes.centres.astype(np.float32)[side]
    normal = local / np.float32(actor.radius)
    axis = eyes.axes.astype(np.float32)[side]
    # an iris keeps its size in mm on a larger ball
    angle = np.arccos(np.clip(dot(normal, axis), -1, 1)) * (actor.radius / surface.RADIUS)
    right = np.cross([0.0, 1.0, 0.0], eyes.axes)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(eyes.axes, right)
    turn = np.arctan2(dot(normal, up.astype("f4")[side]), dot(normal, right.astype("f4")[side]))
    style = actor.style
    painted = _plain_ball if style.iris is None else styled_ball
    albedo, edge = painted(look, style.iris, angle, turn, opening)
    # the upper lid and the corners darken the ball
    above, below, reach = opening
    dim = 0.42 + 0.58 * surface.smoothstep(above, -0.6, 3.4)
    dim = dim * (0.72 + 0.28 * surface.smoothstep(below, -0.4, 1.6))
    dim = dim * (0.70 + 0.30 * surface.smoothstep(reach, 0.0, 4.5))
    shadow = shadows(actor.shadow_tree, point + 0.5 * normal, normal, rays, lights, sample)
    key = np.clip((normal @ lights.key + 0.25) / 1.25, 0, 1) * (0.15 + 0.85 * shadow)
    fill = np.clip(normal @ lights.fill * 0.6 + 0.4, 0, 1)
    light = key[:, None] * lights.key_colour + fill[:, None] * lights.fill_colour
    light += 0.7 * ambient(normal, np.ones(len(point), np.float32), lights)
    colour = 0.86 * albedo * light * dim[:, None]
    # highlights sit on the cornea, a smaller sphere in front of the iris
    bulge = local - 0.42 * actor.radius * axis
    bulge /= np.linalg.norm(bulge, axis=1, keepdims=True)
    bent = np.where(edge < 0.5, bulge, normal)
    if style.highlights:
        colour += _reflected(bent, rays, lights, opening, shadow, edge)
        return colour.astype(np.float32)
    for lamp, power, strength in ((lights.key, 180, 0.9), (lights.fill, 60, 0.10)):
        half = lamp - rays
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        peak = np.clip(dot(bent, half), 0, 1) ** power
        colour += (strength * peak * (above > 0.2) * (0.3 + 0.7 * shadow))[:, None]
    return colour.astype(np.float32)


def _plain_ball(look, _iris, angle, turn, _opening):
    """Albedo (n, 3) of the ball, and how far samples are from iris to white, (n, 1)."""
    ratio = angle / LIMBUS
    phase = look.seed % 97
    fibres = 0.5 + 0.5 * np.sin(turn * 31 + phase + 3 * np.sin(turn * 7 + phase))
    iris = look.iris * (0.72 + 0.55 * fibres * surface.smoothstep(ratio, 0.3, 0.7))[:, None]
    collar = surface.smoothstep(ratio, 0.62, 0.42)[:, None]
    iris = iris * (1 + collar * np.array([0.35, 0.18, 0.02]))
    iris = iris * (1 - look.iris_edge * surface.smoothstep(ratio, 0.78, 0.98))[:, None]
    pupil = surface.smoothstep(angle, look.pupil - 0.012, look.pupil + 0.012)[:, None]
    iris = 0.006 + (iris - 0.006) * pupil
    veins = 1 - 0.16 * surface.smoothstep(angle, 0.75, 1.3)
    white = look.sclera * np.stack([np.ones_like(veins), veins, veins], -1)
    edge = surface.smoothstep(angle, LIMBUS - 0.02, LIMBUS + 0.045)[:, None]
    albedo = iris + (white - iris) * edge
    return albedo, edge


def _reflected(normal, rays, lights, opening, shadow, edge):
    """What of the surroundings (n, 3) the wet eye mirrors between the lids."""
    cosine = -dot(normal, rays)
    mirror = (rays + 2 * cosine[:, None] * normal).astype(np.float32)
    # lids and lashes cover what would be mirrored above and below
    clear = surface.smoothstep(opening[0], -0.2, 1.4) * surface.smoothstep(opening[1], -0.2, 0.8)
    clear = clear * (1 - 0.7 * edge[:, 0]) * (0.5 + 0.5 * shadow)
    share = np.minimum(fresnel(cosine, 0.025), 0.06) * clear
    # a sensor is full long before a lamp is as bright as it is
    return np.minimum(share[:, None] * mirrored(lights.lamps, lights, mirror), 2.5)
