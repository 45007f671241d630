"""A small face model of our own in ICT-FaceKit's file layout, made from the procedural head."""

import json

import numpy as np
from numpy_flame import posed

LOOK = {"Up": (-1, 0), "Down": (1, 0), "Left": (0, 1), "Right": (0, -1)}


def _shape(head, pose=None, code=None):
    expression = ()
    if code is not None:
        expression = np.zeros(16)
        expression[head.meta["expressions"].index(code)] = 1
    return posed(head, (), expression, pose)


def moves(head):
    """Displacements (V, 3) in m by ICT's names, from the head's own expressions and lids."""
    rest = head.v_template.astype(float)
    out = {"jawOpen": _jaw(head) - rest, "mouthPucker": _shape(head, code="pucker") - rest}
    for name, word in (("browInnerUp", "brow_up_inner"), ("mouthSmile", "smile")):
        whole = _shape(head, code=word) - rest
        out[f"{name}_L"] = whole * (rest[:, :1] > 0)
        out[f"{name}_R"] = whole * (rest[:, :1] <= 0)
    for side, word, joint in (("L", "left", 3), ("R", "right", 4)):
        out[f"eyeBlink_{side}"] = _shape(head, code=f"eye_blink_{word}") - rest
        for way, (x, y) in LOOK.items():
            pose = np.zeros((5, 3))
            pose[joint] = np.radians(30) * np.array([x, y, 0])
            moved = _shape(head, pose) - rest
            moved[head.regions >= 7] = 0  # ICT's shapes leave the eyeballs where they are
            inward = "Right" if side == "L" else "Left"
            name = way if way in ("Up", "Down") else ("In" if way == inward else "Out")
            out[f"eyeLook{name}_{side}"] = moved
    return out


def _jaw(head, degrees=14.0):
    pose = np.zeros((5, 3))
    pose[2, 0] = np.radians(degrees)
    return posed(head, pose=pose)


def write_model(folder, head, identities=4):
    """Write the OBJ and JSON files; returns the vertices' order in the files (rows of the head).

    Lower teeth that move rigidly, an iris shell and a piece that no part names come with it.
    Eyeballs are quads, the rest triangles; the head part repeats the vertices along its border.
    """
    folder.mkdir(parents=True, exist_ok=True)
    template = head.v_template.astype(float)
    n = len(head.plane)
    part_of = np.full(len(template), "left_socket", object)
    part_of[:n] = np.where(head.plane[:, 1] > 70, "head", "face")
    part_of[:n][np.abs(head.plane[:, 0]) > 120] = "head"
    rows = np.arange(len(template))
    ears = head.regions == 4
    part_of[ears] = "head"
    sockets = head.regions == 5
    part_of[sockets & (template[:, 0] > 0)] = "left_socket"
    part_of[sockets & (template[:, 0] < 0)] = "right_socket"
    part_of[head.regions == 6] = "mouth_socket"
    part_of[head.regions == 7], part_of[head.regions == 8] = "left_sclera", "right_sclera"
    order = ["face", "head", "mouth_socket", "left_socket", "right_socket", "left_sclera",
             "right_sclera"]  # fmt: skip
    groups = {name: rows[part_of == name] for name in order}
    # polygons between face and head use copies of the face's vertices in the head part
    mixed = head.f[(part_of[head.f] == "face").any(1) & (part_of[head.f] == "head").any(1)]
    border = np.unique(mixed[part_of[mixed] == "face"])
    listing, parts = [], {}
    for name in order:
        first = len(listing)
        listing += groups[name].tolist()
        if name == "head":
            listing += border.tolist()
        parts[name] = [first, len(listing) - 1]
        if name == "mouth_socket":
            parts["teeth"] = [len(listing), len(listing) + 23]
            listing += [-1] * 24
        if name.endswith("sclera"):
            shell = groups[name][:40]
            parts[name.replace("sclera", "iris")] = [len(listing), len(listing) + 39]
            listing += shell.tolist()
    listing += [0, 1, 2]  # as lashes and fluids are: in the files, in no part that is used
    listing = np.array(listing)
    place = np.full(len(template), -1)
    for name in order:
        place[groups[name]] = parts[name][0] + np.arange(len(groups[name]))
    copy = dict(zip(border.tolist(), range(parts["head"][1] - len(border) + 1,
                                           parts["head"][1] + 1), strict=True))  # fmt: skip
    grid = np.stack(np.meshgrid(np.linspace(-20, 20, 12), [0, 1]), -1).reshape(-1, 2)
    teeth = np.stack([grid[:, 0], -80 + 6 * grid[:, 1], -12 + 0 * grid[:, 0]], -1) / 1000
    shift = np.array([0.0, 3.614, 7.0])

    def positions(vertices, teeth):
        out = np.where(listing[:, None] >= 0, vertices[np.maximum(listing, 0)], 0)
        out[parts["teeth"][0] : parts["teeth"][1] + 1] = teeth
        return out * 100 + shift

    polygons, uv = [], []
    for face, chart in zip(head.f.tolist(), head.uvfaces.tolist(), strict=True):
        kinds = part_of[face]
        if (kinds == "head").any() and (kinds == "face").any():
            polygons.append([copy.get(row, place[row]) for row in face])
        else:
            polygons.append([place[row] for row in face])
        uv.append(chart)
    polygons, uv = _quads(polygons, uv, parts)
    first = parts["teeth"][0]
    for i in range(11):
        polygons.append([first + i, first + i + 1, first + 13 + i, first + 12 + i])
        uv.append([0, 0, 0, 0])
    last = len(listing) - 3
    polygons.append([last, last + 1, last + 2])
    uv.append([0, 0, 0])
    text = ["mtllib ICTFaceModelMaterial.mtl"]
    text += [f"vt {u * 3:.6f} {v:.6f}" for u, v in head.uvcoords.astype(float)]
    text += [
        "f " + " ".join(f"{v + 1}/{t + 1}" for v, t in zip(face, chart, strict=True))
        for face, chart in zip(polygons, uv, strict=True)
    ]

    def write(name, vertices, teeth=teeth):
        lines = [f"v {x:.9f} {y:.9f} {z:.9f}" for x, y, z in positions(vertices, teeth)]
        (folder / f"{name}.obj").write_text("\n".join([text[0], *lines, *text[1:]]) + "\n")

    write("generic_neutral_mesh", template)
    for number in range(identities):
        write(f"identity{number:03d}", template + head.shapedirs[:, :, number])
    pose = np.zeros((5, 3))
    pose[2, 0] = np.radians(14.0)
    hinge = head.J_regressor[2] @ template
    c, s = np.cos(pose[2, 0]), np.sin(pose[2, 0])
    turned = (teeth - hinge) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T + hinge
    names = moves(head)
    for name, move in names.items():
        write(name, template + move, turned if name == "jawOpen" else teeth)
    corners = head.f[head.full_lmk_faces_idx[0]]
    best = head.full_lmk_bary_coords[0].argmax(1)
    marks = place[corners[np.arange(68), best]].tolist()
    content = {
        "expressions": sorted(names),
        "idx_to_landmark_verts": [0] * 17 + marks[17:],
        "parts": parts,
        "jaw": marks[:17],
    }
    (folder / "vertex_indices.json").write_text(json.dumps(content))
    return listing


def _quads(polygons, uv, parts):
    """Join neighbouring triangles of the eyeballs into quads, as most of ICT's polygons are."""
    out, charts, index = [], [], 0
    low, high = parts["left_sclera"][0], parts["right_sclera"][1]
    while index < len(polygons):
        a = polygons[index]
        if index + 1 < len(polygons) and low <= min(a) and max(a) <= high:
            b = polygons[index + 1]
            shared = [v for v in a if v in b]
            if len(shared) == 2 and a[0] == b[0] and a[2] == b[1]:
                out.append([a[0], a[1], a[2], b[2]])
                charts.append([*uv[index], uv[index + 1][2]])
                index += 2
                continue
        out.append(a)
        charts.append(uv[index])
        index += 1
    return out, charts
