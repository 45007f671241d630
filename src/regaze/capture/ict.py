"""ICT-FaceKit's light face model as a head model in FLAME's format.

The user downloads ``ICT-VGL/ICT-FaceKit`` (MIT licence, copyright 2020 USC Institute for Creative
Technologies; Li et al. 2020, Learning formation of physically-based face attributes); nothing of
it is part of this project. Part table and landmark lists are those of its README.

The converted head can be fitted, rendered and edited like any other, and the synthetic capture can
render it: its skin is registered to the procedural head by landmarks, so that what the capture
paints (brows, lips, hair, beard) and the albedo basis lie where the face has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path

import numpy as np

from regaze.capture import ict_fit
from regaze.capture.template import REGIONS
from regaze.face3d.model import FlameModel, make_model
from regaze.face3d.obj import ObjMesh, read_obj, read_vertices
from regaze.filetypes import read_json
from regaze.outputs import replacing

MM = 10.0
"""Millimetres per unit of the OBJ files."""
PARTS = {
    "face": (0, 9408), "head": (9409, 11247), "mouth_socket": (11248, 13293),
    "left_socket": (13294, 13677), "right_socket": (13678, 14061), "gums": (14062, 17038),
    "teeth": (17039, 21450), "left_sclera": (21451, 22220), "left_iris": (22221, 23020),
    "right_sclera": (23021, 23790), "right_iris": (23791, 24590),
}  # fmt: skip
"""First and last vertex of every part used; the rest (fluid, blend, lashes) is left out."""
JAW = (
    1278, 1272, 12, 1834, 243, 781, 2199, 1447, None,
    3661, 4390, 3022, 2484, 4036, 2253, 3490, 3496,
)  # fmt: skip
"""Vertices that stand for landmarks 0 to 16 along the jaw; None keeps the list's own."""
LOOK = ("eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut")
GROUPS = {
    "smile": {"mouthSmile_L": 0.4, "mouthSmile_R": 0.4},
    "brow_up": {"browInnerUp_L": 0.35, "browInnerUp_R": 0.35, "browOuterUp_L": 0.35,
                "browOuterUp_R": 0.35},
    "brow_down": {"browDown_L": 0.45, "browDown_R": 0.45},
    "cheek_raise": {"cheekSquint_L": 0.5, "cheekSquint_R": 0.5},
    "lip_press": {"mouthPress_L": 0.4, "mouthPress_R": 0.4},
    "pucker": {"mouthPucker": 0.3},
    "jaw_open": {"jawOpen": 0.12},
    "frown": {"mouthFrown_L": 0.4, "mouthFrown_R": 0.4},
    "eye_blink_left": {"eyeBlink_L": 1.0},
    "eye_blink_right": {"eyeBlink_R": 1.0},
}  # fmt: skip
"""Which expressions, and how strong, stand for the procedural head's in the capture."""
NOTICE = """Copyright (c) 2020 USC Institute for Creative Technologies

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and \
associated documentation files (the "Software"), to deal in the Software without restriction, \
including without limitation the rights to use, copy, modify, merge, publish, distribute, \
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is \
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or \
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT \
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND \
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, \
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT \
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


@dataclass(frozen=True)
class IctLayout:
    """Where things are in the files; the default is the published model.

    Attributes:
        parts: first and last vertex of every part, names as in ``PARTS``; ``mouth_socket``,
            the sockets, ``gums``, ``teeth`` and the irises may be absent.
        jaw: 17 vertices, see ``JAW``.
        vertices: how many the neutral mesh must have; None takes any number.
        identities: how many ``identityNNN.obj`` there must be.
    """

    parts: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict(PARTS))
    jaw: tuple[int | None, ...] = JAW
    vertices: int | None = 26719
    identities: int = 100

    def rows(self, *names: str) -> np.ndarray:
        """Vertex rows of parts, in the order given; absent parts have none."""
        ranges = [self.parts[n] for n in names if n in self.parts]
        return np.concatenate([np.arange(a, b + 1) for a, b in ranges] or [np.zeros(0, int)])


@dataclass(frozen=True)
class IctFiles:
    """What the folder holds: the neutral mesh and displacements, in mm.

    ``identity`` (K, V, 3), ``expression`` (E, V, 3) with their ``names``, ``landmarks`` (68,)
    vertex rows, ``mesh`` as read, ``vertices`` (V, 3) mm, ``digest`` SHA-256 of all files read.
    """

    mesh: ObjMesh
    vertices: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    names: tuple[str, ...]
    landmarks: np.ndarray
    digest: str


def convert_ict(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    commit: str | None = None,
    look_degrees: float = 30.0,
    teeth: bool = False,
) -> FlameModel:
    """Convert a downloaded ICT-FaceKit into one ``.npz`` and return the model.

    A cut-down model says where things are in its ``vertex_indices.json``, see
    :func:`read_layout`. The file holds all arrays of :data:`regaze.capture.head.NEEDED`, so that
    the capture reads it too, and the original texture coordinates as ``udim_uvcoords`` (u in 0..7)
    and ``udim_uvfaces``.

    Args:
        folder: the repository, or its ``FaceXModel``.
        out: the ``.npz`` to write.
        commit: of the download, recorded; read from the folder's git data when None.
        look_degrees: the turn of the eyes that the ``eyeLook`` shapes stand for.
        teeth: take gums, tongue and teeth as well.

    Raises:
        ValueError: a file is missing or does not fit; the message names file, expected and found.
    """
    folder = model_folder(folder)
    layout = read_layout(folder)
    files = read_files(folder, layout)
    if not 5 <= look_degrees <= 60:
        raise ValueError(f"look_degrees: expected 5..60, found {look_degrees}")
    arrays, extra = ict_fit.assemble(files, layout, np.radians(look_degrees), teeth)
    count = len(files.identity)
    meta = {
        "source": "ict",
        "generator": "regaze conversion of ICT-FaceKit 1",
        "licence": "MIT",
        "notice": _notice(folder),
        "upstream": {"repository": "ICT-VGL/ICT-FaceKit", "commit": commit or checked_out(folder)},
        "inputs": {"files": 2 + count + len(files.names), "sha256": files.digest},
        "expressions": extra.pop("expressions"),
        "expression_groups": GROUPS,
        "feminine": [0.0] * count,
        "regions": list(REGIONS),
        "eye_radius": extra.pop("eye_radius"),
        "jaw": extra.pop("jaw"),
        "look_degrees": look_degrees,
    }
    model = make_model(arrays, str(folder), meta=meta)
    content = {**arrays, **extra}
    # as the model holds them: checked, and in its kinds
    content.update({n: getattr(model, n) for n in arrays if getattr(model, n, None) is not None})
    content["n_shape_total"] = np.array(model.n_shape_total)
    content["texture_rgb"] = np.array(True)
    content["meta"] = np.array(json.dumps(meta, sort_keys=True))
    with replacing(out) as part, open(part, "wb") as stream:
        np.savez(stream, **content)
    return model


def model_folder(folder: str | os.PathLike) -> Path:
    """The folder of the OBJ files: ``folder`` or its ``FaceXModel``.

    Raises:
        ValueError: there is no neutral mesh in either.
    """
    folder = Path(folder)
    for place in (folder / "FaceXModel", folder):
        if (place / "generic_neutral_mesh.obj").is_file():
            return place
    raise ValueError(
        f"{folder}: neither it nor its FaceXModel holds generic_neutral_mesh.obj; download "
        "ICT-FaceKit's light model from the repository ICT-VGL/ICT-FaceKit"
    )


def read_layout(folder: Path) -> IctLayout:
    """The published layout, or the one of a cut-down model that brings its own.

    A ``vertex_indices.json`` with ``parts`` (name to [first, last]) describes a cut-down model;
    ``jaw`` (17 vertices or null) and ``identities`` may follow.
    """
    content = read_json(folder / "vertex_indices.json")
    if "parts" not in content:
        return IctLayout()
    path = folder / "vertex_indices.json"
    try:
        parts = {name: (index(a), index(b)) for name, (a, b) in content["parts"].items()}
    except (AttributeError, TypeError, ValueError):
        told = "expected a [first, last] vertex pair for every name"
        raise ValueError(f"{path}: parts: {told}, found {content['parts']!r:.80}") from None
    jaw = tuple(content.get("jaw", [None] * 17))
    identities = content.get("identities")
    if identities is None:
        identities = len(list(folder.glob("identity[0-9][0-9][0-9].obj")))
    return IctLayout(parts, jaw, None, int(identities))


def read_files(folder: Path, layout: IctLayout) -> IctFiles:
    """Read all files of a model.

    Raises:
        ValueError: see :func:`convert_ict`.
    """
    digest = hashlib.sha256()

    def seen(path: Path) -> Path:
        if not path.is_file():
            raise ValueError(f"{path}: no such file; the download of ICT-FaceKit is incomplete")
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        return path

    about = seen(folder / "vertex_indices.json")
    content = read_json(about)
    neutral = seen(folder / "generic_neutral_mesh.obj")
    mesh = read_obj(neutral)
    count = len(mesh.vertices)
    if layout.vertices is not None and count != layout.vertices:
        raise ValueError(f"{neutral}: expected {layout.vertices} vertices, found {count}")
    _check_parts(neutral, layout, count)
    names = content.get("expressions")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{about}: expressions: expected a list of names, found {names!r:.80}")
    wrong = [name for name in names if not re.fullmatch(r"\w+", name)]
    if wrong or len(set(names)) != len(names):
        raise ValueError(f"{about}: expressions: expected different plain names, found {wrong}")
    look = [f"{word}_{side}" for word in LOOK for side in "LR"]
    if lacking := [name for name in [*look, "jawOpen"] if name not in names]:
        raise ValueError(f"{about}: expressions: lacks {', '.join(lacking)}")
    landmarks = _landmarks(about, content, layout, count)
    present = sorted(path.name for path in folder.glob("identity*.obj"))
    if len(present) != layout.identities:
        raise ValueError(
            f"{folder}: expected {layout.identities} files identityNNN.obj, found {len(present)}"
        )

    def move(name: str) -> np.ndarray:
        path = seen(folder / f"{name}.obj")
        found = read_vertices(path)
        if len(found) != count:
            raise ValueError(f"{path}: expected {count} vertices, found {len(found)}")
        return ((found - mesh.vertices) * MM).astype(np.float32)

    identity = [move(f"identity{number:03d}") for number in range(layout.identities)]
    # the shapes that only follow the gaze come last, so that 50 codes hold all others
    ordered = [n for n in names if n not in look] + look
    expression = [move(name) for name in ordered]
    moves, names = (np.stack(identity), np.stack(expression)), tuple(ordered)
    return IctFiles(mesh, mesh.vertices * MM, *moves, names, landmarks, digest.hexdigest())


def _check_parts(path: Path, layout: IctLayout, count: int) -> None:
    needed = ("face", "head", "left_sclera", "right_sclera")
    lacking = [name for name in needed if name not in layout.parts]
    unknown = sorted(set(layout.parts) - set(PARTS))
    if lacking or unknown:
        raise ValueError(
            f"parts: expected {', '.join(PARTS)}; lacks {', '.join(lacking) or 'none'}, "
            f"unknown {', '.join(unknown) or 'none'}"
        )
    for name, (first, last) in layout.parts.items():
        if not 0 <= first <= last < count:
            raise ValueError(
                f"{path}: part {name} is vertices {first}..{last}, the mesh has {count}"
            )
    rows = layout.rows(*layout.parts)
    if len(np.unique(rows)) != len(rows):
        raise ValueError("parts: vertex ranges overlap")


def _landmarks(path: Path, content: dict, layout: IctLayout, count: int) -> np.ndarray:
    marks = content.get("idx_to_landmark_verts")
    if not isinstance(marks, list) or len(marks) != 68:
        found = len(marks) if isinstance(marks, list) else type(marks).__name__
        raise ValueError(f"{path}: idx_to_landmark_verts: expected 68 vertices, found {found}")
    if len(layout.jaw) != 17:
        raise ValueError(f"jaw: expected 17 vertices, found {len(layout.jaw)}")
    marks = [*[m if j is None else j for j, m in zip(layout.jaw, marks, strict=False)], *marks[17:]]
    skin = set(layout.rows("face", "head").tolist())
    if wrong := [mark for mark in marks if mark not in skin]:
        raise ValueError(f"{path}: landmarks {wrong[:5]} are no vertices of face or head ({count})")
    return np.array(marks, np.int64)


def _notice(folder: Path) -> str:
    for place in (folder, folder.parent):
        for name in ("LICENSE", "LICENSE.md", "LICENSE.txt"):
            if (place / name).is_file():
                return (place / name).read_text(encoding="utf-8", errors="replace")[:20_000]
    return NOTICE


def checked_out(folder: Path) -> str:
    """The commit checked out in the folder's repository, or ``unknown``."""
    for place in (folder, folder.parent):
        head = place / ".git" / "HEAD"
        if not head.is_file():
            continue
        text = head.read_text(encoding="utf-8", errors="replace").strip()
        if text.startswith("ref: "):
            named = place / ".git" / text[5:].strip()
            packed = place / ".git" / "packed-refs"
            if ".." not in text and named.is_file():
                text = named.read_text(encoding="utf-8", errors="replace").strip()
            elif packed.is_file():
                lines = packed.read_text(encoding="utf-8", errors="replace").splitlines()
                found = [line.split()[0] for line in lines if line.endswith(" " + text[5:])]
                text = found[0] if found else text
        if re.fullmatch(r"[0-9a-f]{40}", text):
            return text
    return "unknown"
