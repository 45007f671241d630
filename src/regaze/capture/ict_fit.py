"""The geometry of an ICT-FaceKit conversion: selection, joints, weights, correctives.

All lengths are millimetres in the head's frame (axes of FLAME, origin at the mean of the four eye
corners) until :func:`assemble` turns them into metres.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from regaze.capture import landmarks as marks_of
from regaze.capture import surface
from regaze.capture.head import PARENTS, HeadConfig, build_head
from regaze.capture.ict_surface import CORNERS, charts, eye_rings, label, register
from regaze.capture.landmarks import corners_at

SMALL = 0.05
"""Correctives below this many mm are left out, so that eyes move no more skin than they must."""


def assemble(files, layout, look: float, teeth: bool) -> tuple[dict, dict]:
    """Arrays of the head model, and what else the file holds.

    Args:
        files: an :class:`regaze.capture.ict.IctFiles`.
        layout: an :class:`regaze.capture.ict.IctLayout`.
        look: radians that the ``eyeLook`` shapes stand for.
        teeth: whether gums, tongue and teeth are taken.
    """
    skin_rows = layout.rows("face", "head")
    inner = ("left_socket", "right_socket", "mouth_socket", *(("gums", "teeth") if teeth else ()))
    rows = np.concatenate(
        [skin_rows, layout.rows(*inner), layout.rows("left_sclera", "right_sclera")]
    )
    new = np.full(len(files.vertices), -1)
    new[rows] = np.arange(len(rows))
    rows, new = _weld(files.vertices, layout, rows, new)
    skin = int(np.isin(rows, skin_rows).sum())
    triangles, uv_rows, _ = files.mesh.triangles()
    kept = (new[triangles] >= 0).all(1)
    faces, udim = new[triangles[kept]], uv_rows[kept]
    flat = (faces == np.roll(faces, 1, 1)).any(1)
    faces, udim = faces[~flat], udim[~flat]
    _check_faces(faces, len(rows))
    marks = new[files.landmarks]
    origin = files.vertices[rows][marks[CORNERS]].mean(0)
    rest = files.vertices[rows] - origin
    part = {name: new[layout.rows(name)] for name in layout.parts}
    part = {name: index[index >= 0] for name, index in part.items()}
    move = {n: files.expression[i][rows] for i, n in enumerate(files.names)}
    balls = {s: fit_ball(rest[part[f"{s}_sclera"]]) for s in ("left", "right")}
    everything = {n: files.vertices[layout.rows(n)] - origin for n in layout.parts}
    opened = files.expression[files.names.index("jawOpen")]
    lower = {n: opened[layout.rows(n)] for n in layout.parts}
    jaw = fit_jaw(everything, lower, rest[marks], rest[:skin])
    head = build_head(HeadConfig())
    plane, ear = register(rest, faces, skin, marks, head)
    ring = eye_rings(rest, faces, skin, marks)
    weights, residual = skinning(rest, move["jawOpen"], skin, part, jaw, rest[marks])
    regressor = joints(rest, skin, part, balls, jaw, marks)
    regions = label(plane, ear, ring, skin, part, len(rows))
    uvcoords, uvfaces = charts(rest, faces, plane, skin, part, balls)
    posedirs = correctives(move, residual, jaw["angle"], look, part)
    moving, bary = marks_of.contour(plane[:, 0], plane[:, 1], rest[:skin], faces)
    still, still_bary = corners_at(faces, marks)
    directions = np.concatenate([files.identity[:, rows], files.expression[:, rows]])
    used, udim = np.unique(udim, return_inverse=True)
    arrays = {
        "v_template": rest / 1000,
        "f": faces,
        "shapedirs": np.moveaxis(directions, 0, -1) / 1000,
        "posedirs": posedirs / 1000,
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([PARENTS, range(5)], np.int64),
        "n_shape_total": len(files.identity),
        "uvcoords": uvcoords,
        "uvfaces": uvfaces,
        "regions": regions,
        "static_lmk_faces_idx": still[17:],
        "static_lmk_bary_coords": still_bary[17:],
        "dynamic_lmk_faces_idx": moving,
        "dynamic_lmk_bary_coords": bary,
        "full_lmk_faces_idx": still[None],
        "full_lmk_bary_coords": still_bary[None],
        "uv_face_mask": head.uv_face_mask,
        "uv_face_eye_mask": head.uv_face_eye_mask,
        "fixed_displacement": np.zeros((256, 256), np.float32),
        "MU": head.MU,
        "PC": head.PC,
        "plane": plane,
        "plane_xy": surface.base(plane[:, 0], plane[:, 1])[:, :2],
        "ring": ring,
    }
    extra = {
        "expressions": list(files.names),
        "eye_radius": round(float(np.mean([ball[1] for ball in balls.values()])), 4),
        "jaw": {
            "hinge": [round(float(x), 3) for x in jaw["hinge"]],
            "degrees": round(float(np.degrees(jaw["angle"])), 3),
        },
    }
    if len(files.mesh.uvs) and used.min() >= 0:
        extra["udim_uvcoords"] = files.mesh.uvs[used].astype(np.float32)
        extra["udim_uvfaces"] = udim.reshape(-1, 3).astype(np.int64)
    return arrays, extra


def _weld(vertices, layout, rows, new):
    """Let vertices of the head that lie on the face's border be the face's own."""
    face, head = layout.rows("face"), layout.rows("head")
    distance, nearest = cKDTree(vertices[face]).query(vertices[head])
    same = distance < 1e-4
    gone = head[same]
    rows = rows[~np.isin(rows, gone)]
    new = np.full(len(new), -1)
    new[rows] = np.arange(len(rows))
    new[gone] = new[face[nearest[same]]]
    return rows, new


def _check_faces(faces: np.ndarray, count: int) -> None:
    bare = np.setdiff1d(np.arange(count), faces)
    if not len(faces) or len(bare) > 0.02 * count:
        raise ValueError(
            f"parts: {len(bare)} of {count} vertices belong to no polygon; the vertex ranges do "
            "not fit the mesh"
        )


# --- eyes and joints


def fit_ball(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of the sphere about the back of a shell (n, 3).

    The front bulges over the cornea, so it does not count: least squares over the points behind
    the middle of the shell's box.
    """
    low, high = points.min(0), points.max(0)
    back = points[points[:, 2] <= low[2] + 0.5 * (high[2] - low[2])]
    if len(back) < 8:
        raise ValueError(
            f"an eyeball shell: expected 8 vertices behind its middle, found {len(back)}"
        )
    matrix = np.concatenate([2 * back, np.ones((len(back), 1))], 1)
    answer = np.linalg.lstsq(matrix, (back**2).sum(1), rcond=None)[0]
    centre = answer[:3]
    radius = float(np.sqrt(answer[3] + centre @ centre))
    off = np.abs(np.linalg.norm(back - centre, axis=1) - radius).max()
    if not 5 < radius < 30 or off > 0.25 * radius:
        raise ValueError(
            f"an eyeball shell is no sphere of 5..30 mm: radius {radius:.2f}, off by {off:.2f} mm"
        )
    return centre, radius


def affine_row(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest weights (n,) over points (n, 3) that sum to one and meet ``target`` (3,).

    Being affine, they follow every shift, turn and scaling of the points exactly.
    """
    matrix = np.concatenate([points.T, np.ones((1, len(points)))])
    start = np.full(len(points), 1 / len(points))
    miss = np.append(target, 1) - matrix @ start
    return start + np.linalg.lstsq(matrix, miss, rcond=None)[0]


def joints(rest, skin: int, part, balls, jaw, marks) -> np.ndarray:
    """Joint regressor (5, V): rings of the neck, the jaw's hinge, the eyes' centres."""
    out = np.zeros((5, len(rest)))
    height = rest[:skin, 1]
    chin, low = rest[marks[8], 1], height.min()
    share = (height - low) / max(chin - low, 1e-6)
    for joint, (first, last) in enumerate(((-0.01, 0.12), (0.62, 0.85))):
        members = np.flatnonzero((share >= first) & (share <= last))
        if not len(members):
            members = np.argsort(np.abs(share - (first + last) / 2))[:12]
        out[joint, members] = 1 / len(members)
    # the hinge: skin in front of both ears
    near = np.linalg.norm(rest[:skin, 1:] - jaw["hinge"][1:], axis=1)
    side = np.abs(rest[:skin, 0]) > 0.6 * np.abs(rest[marks[:17], 0]).max()
    members = np.argsort(np.where(side, near, np.inf))[: max(24, skin // 150)]
    out[2, members] = affine_row(rest[members], jaw["hinge"])
    for joint, name in ((3, "left"), (4, "right")):
        members = part[f"{name}_sclera"]
        out[joint, members] = affine_row(rest[members], balls[name][0])
    return out


# --- jaw


def fit_jaw(points, moves, marks, skin) -> dict:
    """The rigid turn behind ``jawOpen``: rotation, shift, angle (rad, opening) and hinge (3,).

    Lower teeth and gums move rigidly; where a model has none that move, chin and lower jaw do. The
    hinge is the fixed point of the turn in the plane of symmetry.
    """
    names = [n for n in ("gums", "teeth") if n in points]
    before = np.concatenate([points[n] for n in names] or [np.zeros((0, 3))])
    after = np.concatenate([moves[n] for n in names] or [np.zeros((0, 3))])
    size = np.linalg.norm(after, axis=1) if len(after) else np.zeros(0)
    rigid = size > 0.6 * size.max(initial=0)
    if rigid.sum() < 12 or size.max(initial=0) < 1:
        before, after = (np.concatenate([c[n] for n in ("face", "head")]) for c in (points, moves))
        size = np.linalg.norm(after, axis=1)
        # skin stretches: only what moves most, below the mouth, is near the jaw's own motion
        rigid = (size > 0.7 * size.max()) & (before[:, 1] < marks[57, 1])
    if rigid.sum() < 4 or size.max() < 1:
        raise ValueError(
            "jawOpen: expected teeth, gums or chin to move by a millimetre or more, "
            f"found {size.max():.2f} mm"
        )
    p, q = before[rigid], before[rigid] + after[rigid]
    turn = _kabsch(p, q)
    angle = float(np.arctan2(turn[2, 1] - turn[1, 2], turn[1, 1] + turn[2, 2]))
    usual = np.array([0.0, marks[[0, 16], 1].mean() - 5, marks[[0, 16], 2].mean()])
    hinge = usual
    if angle > np.radians(2):
        # a turn about x: the fixed point in (y, z), unless it lies outside the head
        c, s = np.cos(angle), np.sin(angle)
        turned = np.array([[c, -s], [s, c]])
        middle, moved = p.mean(0)[1:], q.mean(0)[1:]
        found = np.linalg.solve(np.eye(2) - turned, moved - turned @ middle)
        if np.linalg.norm(found - usual[1:]) < 45:
            hinge = np.append(0.0, found)
    if np.array_equal(hinge, usual):
        (_, ay, az), (_, gy, gz) = (p - hinge).mean(0), (q - hinge).mean(0)
        angle = float(np.arctan2(ay * gz - az * gy, ay * gy + az * gz))
    if not np.radians(1) < angle < np.radians(60):
        raise ValueError(
            f"jawOpen: expected a turn of the jaw by 1..60 degrees, found {np.degrees(angle):.1f}"
        )
    c, s = np.cos(angle), np.sin(angle)
    return {"hinge": hinge, "angle": angle, "turn": np.array([[1, 0, 0], [0, c, -s], [0, s, c]])}


def _kabsch(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that best takes points (n, 3) to others, their means aside."""
    u, _, vt = np.linalg.svd((p - p.mean(0)).T @ (q - q.mean(0)))
    flip = np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))])
    return vt.T @ flip @ u.T


def skinning(rest, opened, skin: int, part, jaw, marks) -> tuple[np.ndarray, np.ndarray]:
    """Weights (V, 5) and what ``jawOpen`` does beyond them (V, 3) mm.

    A vertex follows the jaw by the share of the jaw's rigid motion that ``jawOpen`` gives it.
    """
    rigid = (rest - jaw["hinge"]) @ (jaw["turn"] - np.eye(3)).T
    share = (opened * rigid).sum(1) / np.maximum((rigid**2).sum(1), 4.0)
    share = np.clip(share, 0, 1)
    share[share < 0.01] = 0
    height = rest[:, 1]
    low = height[:skin].min()
    neck = max(marks[8, 1] - low, 1e-6)
    root = surface.smoothstep((height - low) / neck, 0.7, 0.12)
    root[skin:] = 0
    weights = np.zeros((len(rest), 5))
    weights[:, 0] = root
    weights[:, 2] = share * (1 - root)
    weights[:, 1] = 1 - weights[:, 0] - weights[:, 2]
    for joint, name in ((3, "left_sclera"), (4, "right_sclera")):
        weights[part[name]] = np.eye(5)[joint]
    residual = opened - weights[:, 2:3] * rigid
    residual[part["left_sclera"]] = residual[part["right_sclera"]] = 0
    return weights, residual


def correctives(move, residual, angle: float, look: float, part) -> np.ndarray:
    """Pose correctives (V, 3, 36) in mm: lids after the eyes, soft tissue after the jaw.

    For an eye turned by ``a`` about x (down positive) and ``b`` about y, the lids move by
    ``L sin a + Q (1 - cos a)`` and likewise for ``b``, which meets the shapes for both signs at
    ``look``. The features are sin a (entry 7), cos a - 1 (4), sin b (2) and cos b - 1 (0).
    """
    out = np.zeros((*residual.shape, 36))
    sine, drop = np.sin(look), 1 - np.cos(look)
    balls = np.concatenate([part["left_sclera"], part["right_sclera"]])
    for joint, word in ((3, "L"), (4, "R")):
        # looking to the subject's left is outward for the left eye
        left, right = ("Out", "In") if word == "L" else ("In", "Out")
        pairs = (("Down", "Up", 7, 4), (left, right, 2, 0))
        for plus, minus, odd, even in pairs:
            first = _clean(move[f"eyeLook{plus}_{word}"], balls)
            second = _clean(move[f"eyeLook{minus}_{word}"], balls)
            out[..., 9 * (joint - 1) + odd] = (first - second) / (2 * sine)
            out[..., 9 * (joint - 1) + even] = -(first + second) / (2 * drop)
    out[..., 9 + 7] = residual / np.sin(angle)
    return out


def _clean(shape: np.ndarray, balls: np.ndarray) -> np.ndarray:
    out = shape.astype(np.float64)
    out[np.linalg.norm(out, axis=1) < SMALL] = 0
    out[balls] = 0
    return out
