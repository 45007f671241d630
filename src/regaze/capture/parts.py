"""Meshes around the head: hair shells and curtains, beards, glasses, shoulders.

All parts are in the head frame in millimetres. A part is a :class:`Mesh` with per-vertex colours.
Shells are the skin's own triangles pushed out along its normals, so that they fit any head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regaze.capture.surface import smoothstep

LABELS = {"background": 0, "skin": 1, "hair": 2, "left_eye": 3, "right_eye": 4, "clothes": 5,
          "glasses": 6}  # fmt: skip
"""Values of the masks; left and right are the subject's own."""


@dataclass(frozen=True)
class Mesh:
    """Triangles with vertex colours (linear RGB), texture coordinates and a mask label."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    uv: np.ndarray
    label: int
    gloss: float


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    n = np.cross(b - a, c - a)
    out = np.zeros((len(vertices), 3))
    for axis in range(3):
        for corner in range(3):
            out[:, axis] += np.bincount(faces[:, corner], n[:, axis], len(vertices))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def lattice(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles (F, 3) of a grid of points, row by row, optionally closed along columns."""
    i = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(i, -1, 1)
    a, b, a1, b1 = i[:-1], i[1:], right[:-1], right[1:]
    if not closed:
        a, b, a1, b1 = (part[:, :-1] for part in (a, b, a1, b1))
    return np.stack([[a, b, b1], [a, b1, a1]]).transpose(0, 2, 3, 1).reshape(-1, 3)


def _sheet(points, colours, uv, label: str, gloss: float, closed: bool = False) -> Mesh:
    """A grid of points (rows, columns, 3) as a mesh, optionally closed along columns."""
    flat = points.reshape(-1, 3), colours.reshape(-1, 3), uv.reshape(-1, 2)
    return Mesh(flat[0], lattice(*points.shape[:2], closed), *flat[1:], LABELS[label], gloss)


def _shell(vertices, faces, keep, colours, uv, gloss: float) -> Mesh:
    """The triangles ``keep`` (m,) of a surface, and the vertices that they use, as hair."""
    used, index = np.unique(faces[keep], return_inverse=True)
    parts = vertices[used], index.reshape(-1, 3), colours[used], uv[used]
    return Mesh(*parts, LABELS["hair"], gloss)


def joined(pieces) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of several (vertices, triangles) as one mesh."""
    starts = np.cumsum([0] + [len(points) for points, _ in pieces])
    faces = [index + start for (_, index), start in zip(pieces, starts, strict=False)]
    return np.concatenate([points for points, _ in pieces]), np.concatenate(faces)


def _waves(rng, x, y, z, scale, count=10):
    """Smooth noise of unit variance over points, wavelength about ``scale`` mm."""
    k = rng.normal(size=(count, 3)) * (2 * np.pi / scale) * 0.6
    phase = rng.uniform(0, 2 * np.pi, count)
    value = np.sin(np.stack([x, y, z], -1) @ k.T + phase).sum(-1)
    return value / np.sqrt(count / 2)


def hairline(look, u: np.ndarray, v: np.ndarray):
    """Height (same shape as ``u``) in mm above which hair grows, and how far it is a fringe."""
    style, au = look.hair, np.abs(u)
    # hairline height over |u|: forehead, temple, before the ear, behind the ear, nape
    front = 64.0 + look.hairline
    recesses = {"receding": 24.0, "short": 4.0, "buzz": 5.0, "side": 5.0, "quiff": 7.0}
    recess = recesses.get(style, 1.5)
    around = [0, 25, 45, 62, 78, 96, 106, 122, 140, 175, 230]
    height = [front, front + 0.6 * recess, front - 4 + recess, front - 22]
    line = np.interp(au, around, [*height, 26, -2, 22, 14, -40, -78, -88])
    if style in ("long", "wavy", "bob", "fringe", "afro", "tied", "pixie", "medium"):
        sideburn = np.interp(au, [70, 84, 96, 110, 125], [0, 6, 12, 26, 0])
        line = line - sideburn
    drop = np.zeros_like(line)
    if style == "fringe":
        cover = smoothstep(au, 92, 66)
        line = line - cover * (40.0 + 4 * look.parting)
        drop = cover
    elif style in ("pixie", "medium"):
        sweep = smoothstep(u * np.sign(look.parting), -50, 10) * smoothstep(au, 70, 48)
        line = line - sweep * 20.0
    elif style in ("long", "wavy", "bob"):
        part = np.abs(u - 22 * look.parting)
        line = line - smoothstep(part, 14, 50) * smoothstep(au, 72, 50) * 12.0
    return line, drop


def hair(look, skin: np.ndarray, normals: np.ndarray, plane: np.ndarray, faces: np.ndarray):
    """Hair of a person as a list of meshes (empty for a bald head).

    Args:
        look: a :class:`regaze.capture.subject.Look`.
        skin: (n, 3) mm skin vertices in rest pose; ``normals`` (n, 3).
        plane: (n, 2) mm plane coordinates (u, v) of the skin vertices.
        faces: (m, 3) skin triangles.
    """
    rng = np.random.default_rng([look.seed, 5])
    u, v = plane.T
    au = np.abs(u)
    style, thick = look.hair, look.hair_thick
    if style == "bald":
        return []
    x, y, z = skin.T
    line, drop = hairline(look, u, v)
    inside = v - line + 1.2 * _waves(rng, x, y, z, 12.0)
    top = smoothstep(v, 50, 115)
    size = {
        "buzz": (2.2, 2.2), "short": (5.5, 13.0), "side": (6.0, 16.0), "quiff": (4.5, 20.0),
        "receding": (4.0, 6.0), "curly": (13.0, 22.0), "afro": (30.0, 36.0), "long": (9.0, 12.0),
        "wavy": (12.0, 15.0), "bob": (12.0, 14.0), "tied": (5.0, 7.5), "fringe": (9.0, 13.0),
        "pixie": (8.0, 14.0), "medium": (11.0, 16.0),
    }[style]  # fmt: skip
    height = (size[0] + (size[1] - size[0]) * top) * thick
    if style == "quiff":
        tuft = smoothstep(v, 60, 85) * smoothstep(v, 130, 95) * smoothstep(au, 60, 30)
        height = height + 9 * tuft
    if style == "side":
        height = height - 5.0 * np.exp(-0.5 * ((u - 34 * look.parting) / 5) ** 2) * (v > 50)
    if style in ("long", "wavy", "bob"):
        height = height - 4.0 * np.exp(-0.5 * ((u - 22 * look.parting) / 5) ** 2) * (v > 40)
    rough = {"curly": 3.6, "afro": 4.6, "wavy": 2.2, "buzz": 0.2, "tied": 0.5}.get(style, 1.3)
    lumps = _waves(rng, x, y, z, 13.0 if style in ("curly", "afro") else 34.0, 16)
    rise = {"afro": 16.0, "curly": 12.0, "buzz": 10.0}.get(style, 15.0)
    # the shell grows out of the painted scalp instead of standing on it
    height = height * smoothstep(inside, -1, rise) + rough * lumps * smoothstep(inside, 4, 16)
    offset = np.where(inside > 0, np.maximum(height, 0.3), -1.6)
    if style == "fringe":
        lie = 0.3 + 3.4 * smoothstep(inside, 0, 9)
        offset = np.where((drop > 0.3) & (inside > 0), np.maximum(offset, lie), offset)
    shell = skin + normals * offset[:, None]
    tint = 1 + 0.10 * _waves(rng, x, y, z, 30.0)
    colours = look.hair_colour * np.clip(tint, 0.7, 1.3)[:, None]
    uv = np.stack([u / 120.0, v / 240.0], -1)
    meshes = [_shell(shell, faces, (inside[faces] > -1).any(1), colours, uv, 0.35)]
    if style in ("long", "wavy", "bob"):
        meshes.append(_curtain(look, rng, skin, plane))
    return meshes


def _curtain(look, rng, skin, plane):
    """Long hair: a sheet hanging from the temples round the back, in front of the ears' rear."""
    u, v = plane.T
    bottom = {"bob": -86.0, "long": -215.0, "wavy": -190.0}[look.hair] + rng.uniform(-12, 12)
    angle = np.radians(np.linspace(62, 298, 61))
    heights = np.linspace(72, bottom, 44)
    thick = 9.0 * look.hair_thick
    centre_z = -78.0
    radius = np.empty((heights.size, angle.size))
    azimuth = np.arctan2(skin[:, 0], skin[:, 2] - centre_z) % (2 * np.pi)
    distance = np.hypot(skin[:, 0], skin[:, 2] - centre_z)
    for row, y in enumerate(heights):
        near = np.abs(skin[:, 1] - max(y, -60)) < 9
        order = np.argsort(azimuth[near])
        radius[row] = np.interp(
            angle, azimuth[near][order], distance[near][order], period=2 * np.pi
        )
    # ears stay under the hair: hair never falls inward again by more than a little
    radius += thick * smoothstep(heights, 75, 45)[:, None]
    ear = np.exp(-0.5 * ((np.minimum(angle, 2 * np.pi - angle) - 1.62) / 0.30) ** 2)
    radius += ear * 13.0 * smoothstep(heights, 40, 0)[:, None]
    run = np.maximum.accumulate(radius * 0.985, 0)
    radius = np.maximum(radius, run - 0.12 * np.maximum(-heights - 60, 0)[:, None] * 0.3)
    strands = np.sin(angle * 46 + rng.uniform(0, 6)) * 0.7 + np.sin(angle * 23 + 1.0) * 1.0
    radius += strands * smoothstep(heights, 50, -20)[:, None]
    if look.hair == "wavy":
        wave = np.sin(heights[:, None] / 11.0 + 3 * np.sin(angle * 3)) * 3.0
        radius += wave * smoothstep(heights, 20, -50)[:, None]
    # front edges sway forward of the ear and back again below the chin
    sway = 10 * np.sin((heights + 20) / 60.0) + 4 * np.sin(heights / 17.0)
    front = smoothstep(np.abs(angle - np.pi), 1.2, 2.05)
    turn = angle[None] + np.sign(angle - np.pi) * front * np.radians(sway[:, None] * 0.6)
    if look.hair == "bob":
        tuck = smoothstep(heights, bottom + 30, bottom)[:, None]
        radius -= 9 * tuck**2
        turn = turn - np.sign(np.pi - angle) * front * tuck * 0.10
    ragged = 8 * _waves(rng, 20 * angle, 0 * angle, 0 * angle, 22.0)
    y = heights[:, None] + ragged * smoothstep(heights, bottom + 40, bottom)[:, None]
    points = np.stack([radius * np.sin(turn), y, centre_z + radius * np.cos(turn)], -1)
    tint = 1 + 0.16 * strands / 1.2 + 0 * y
    colours = look.hair_colour * np.clip(tint, 0.6, 1.4)[..., None]
    uv = np.stack([np.broadcast_to(angle, y.shape) * 0.75, y / 240.0], -1)
    return _sheet(points, colours, uv, "hair", 0.35)


def beard(look, skin, normals, density, faces, plane):
    """A full beard or goatee as a shell; ``density`` (n,) is its mask on vertices."""
    if look.beard not in ("full", "goatee"):
        return []
    rng = np.random.default_rng([look.seed, 6])
    x, y, z = skin.T
    noise = _waves(rng, x, y, z, 9.0)
    thick = 0.8 * look.beard_thick
    # thin at its edge, where the painted hairs take over
    offset = thick * smoothstep(density, 0.45, 1.0) + 0.3 * noise * density - 0.5
    keep = (density[faces] > 0.4).any(1)
    if not keep.any():
        return []
    colours = np.broadcast_to(look.beard_colour, skin.shape) * (1 + 0.15 * noise)[:, None]
    uv = np.stack([plane[:, 0] / 90.0, plane[:, 1] / 120.0], -1)
    shell = skin + normals * offset[:, None]
    return [_shell(shell, faces, keep, np.clip(colours, 0.003, 1), uv, 0.15)]


def _tube(path: np.ndarray, radius, closed: bool, around: int = 7):
    """A tube along a path (n, 3): vertices and triangles."""
    ahead, behind = np.roll(path, -1, 0), np.roll(path, 1, 0)
    tangent = ahead - behind if closed else np.gradient(path, axis=0)
    tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
    helper = np.array([0.05, 0.1, 1.0]) if closed else np.array([0.1, 1.0, 0.05])
    side = np.cross(tangent, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, tangent)
    phi = np.arange(around) * 2 * np.pi / around
    ring = np.cos(phi)[None, :, None] * side[:, None] + np.sin(phi)[None, :, None] * up[:, None]
    points = path[:, None] + np.asarray(radius).reshape(-1, 1, 1) * ring
    if closed:
        points = np.concatenate([points, points[:1]])
    return points.reshape(-1, 3), lattice(*points.shape[:2], closed=True)


_RIM = np.arange(40) * 2 * np.pi / 40


def rim_size(look) -> tuple[float, float]:
    """Half width and half height of the rims of a person with glasses, mm."""
    half, tall = look.glasses_size
    if look.glasses == "round":
        half = tall = 0.5 * (half + tall) + 1.0
    return half, tall


def _frame_depth(eye_left, bridge) -> float:
    return max(bridge[2] + 2.0, eye_left[2] + 21.0)


def rims(look, eye_left, eye_right, bridge) -> list[np.ndarray]:
    """Closed lines (40, 3) in mm about the lenses of a person with glasses, left eye first."""
    half, tall = rim_size(look)
    power = {"round": 1.0, "square": 0.55, "thin": 0.62, "browline": 0.65, "aviator": 0.85,
             "rimless": 0.7}[look.glasses]  # fmt: skip
    cx = np.sign(np.cos(_RIM)) * np.abs(np.cos(_RIM)) ** power
    cy = np.sign(np.sin(_RIM)) * np.abs(np.sin(_RIM)) ** power
    plane_z = _frame_depth(eye_left, bridge)
    out = []
    for eye, side in ((eye_left, 1), (eye_right, -1)):
        x = eye[0] + side * (1.5 + half * cx)
        y = eye[1] - 2.0 + tall * cy * np.where(cy < 0, 1.0, 0.92)
        if look.glasses == "aviator":  # drops that hang outwards
            x, y = x - side * 2.5 * np.minimum(cy, 0), y + 2.0 * np.minimum(cy, 0)
        away = np.abs(x) - 8
        z = plane_z - 0.0032 * np.maximum(away, 0) ** 2
        out.append(np.stack([x, y, z], -1))
    return out


def glasses(look, eye_left: np.ndarray, eye_right: np.ndarray, ear_x: float, bridge: np.ndarray):
    """Frames of a person with glasses: rims, bridge, temples (empty list for others).

    Args:
        look: a :class:`regaze.capture.subject.Look`.
        eye_left, eye_right: (3,) mm centres of the eyeballs.
        ear_x: half width of the head where the frames' arms pass, mm.
        bridge: (3,) mm point on the bridge of the nose that carries the glasses.
    """
    if not look.glasses:
        return []
    thick = {"round": 1.0, "square": 1.7, "thin": 0.95, "browline": 1.3, "aviator": 0.7,
             "rimless": 0.35}[look.glasses]  # fmt: skip
    half, t = rim_size(look)[0], _RIM
    pieces = []
    for (eye, side), rim in zip(
        ((eye_left, 1), (eye_right, -1)), rims(look, eye_left, eye_right, bridge), strict=True
    ):
        radius = np.full(t.size, thick)
        if look.glasses == "browline":
            radius = thick * np.where(np.sin(t) > 0.2, 1.4, 0.7)
        pieces.append(_tube(rim, radius, True))
        outer = eye[0] + side * (1.5 + half)
        plane_z = _frame_depth(eye_left, bridge)
        start = np.array([outer, eye[1] + 4, plane_z - 0.0032 * (abs(outer) - 8) ** 2])
        end = np.array([side * (ear_x + 1.0), eye[1] + 3, -88.0])
        knee = np.array([side * (ear_x + 0.5), eye[1] + 4, start[2] - 8])
        steps = np.linspace(0, 1, 12)[:, None]
        path = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * knee + steps**2 * end
        pieces.append(_tube(path, np.full(12, max(thick, 1.1)), False))
    inner = eye_left[0] + 1.5 - half
    inner_right = eye_right[0] - 1.5 + half
    steps = np.linspace(0, 1, 10)
    x = inner_right + (inner - inner_right) * steps
    plane_z = _frame_depth(eye_left, bridge)
    y = bridge[1] + 2.0 + 3.0 * np.sin(np.pi * steps)
    path = np.stack([x, y, np.full(10, plane_z + 0.5)], -1)
    pieces.append(_tube(path, np.full(10, max(thick, 0.7)), False))
    vertices, faces = joined(pieces)
    colours = np.broadcast_to(look.glasses_colour, vertices.shape).copy()
    uv = np.zeros((len(vertices), 2))
    return [Mesh(vertices, faces, colours, uv, LABELS["glasses"], 1.5)]


def shoulders(look, neck_radius: float) -> Mesh:
    """Shirt and shoulders below the neck."""
    heights = np.array([-128, -133, -138, -143, -149, -158, -170, -190, -220, -270, -350.0])
    width = np.array([0, 3, 7, 16, 34, 62, 92, 118, 134, 144, 150.0])
    depth = np.array([0, 2, 4, 9, 16, 26, 36, 48, 58, 66, 72.0])
    t = np.linspace(0, 2 * np.pi, 49)[:-1]
    wide = 1.0 if look.kind == "feminine" else 1.14
    base_x = neck_radius + (2.0 if look.collar == "high" else 6.0)
    base_z = neck_radius * 0.84 + (2.0 if look.collar == "high" else 7.0)
    x = (base_x + wide * width[:, None]) * np.sin(t)
    z = -88 + (base_z + depth[:, None]) * np.cos(t)
    front = np.clip(np.cos(t), 0, 1)
    fall = {"round": 34.0, "vee": 58.0, "high": 14.0}[look.collar]
    edge = smoothstep(heights, -190, -128)[:, None]
    y = heights[:, None] + 2 - edge * fall * front ** (1.5 if look.collar == "vee" else 1.0)
    points = np.stack([x, y, z], -1)
    colours = np.broadcast_to(look.cloth, points.shape).copy()
    colours[0] *= 0.7
    uv = np.stack(np.broadcast_arrays(t / 6.0, heights[:, None] / 300.0), -1)
    return _sheet(points, colours, uv, "clothes", 0.05, closed=True)
