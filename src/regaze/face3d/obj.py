"""Write meshes as OBJ with colours or a texture, and read them back.

Layout as the demos of ``yfeng95/DECA`` and ``radekd91/emoca`` write it: ``NAME.obj`` with lines
``f v/vt``, ``NAME.mtl`` with the material ``FaceTexture``, ``NAME.png`` and ``NAME_normals.png``.
File names inside are relative, so that a folder can be moved.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regaze.face3d.drawing import write_png
from regaze.face3d.objfile import ObjMesh, read_obj
from regaze.jobs import replacing
from regaze.normalise.photo import read_photo

MATERIAL = "FaceTexture"


@dataclass(frozen=True)
class TexturedMesh:
    """A mesh file with what belongs to it.

    Attributes:
        mesh: geometry and chart.
        colours: (V, 3) float64 in 0..1, or None.
        texture, normals: (H, W, 3) uint8 RGB of the material, or None.
    """

    mesh: ObjMesh
    colours: np.ndarray | None
    texture: np.ndarray | None
    normals: np.ndarray | None


def _picture(value, name: str) -> np.ndarray:
    value = np.asarray(value)
    if value.ndim != 3 or value.shape[2] != 3 or value.dtype != np.uint8:
        raise ValueError(f"{name}: expected (H, W, 3) uint8 RGB, found {value.shape} {value.dtype}")
    return value


def _rows(value, name: str, columns: int) -> np.ndarray:
    value = np.asarray(value)
    if value.ndim != 2 or value.shape[1] != columns or not np.isfinite(value).all():
        raise ValueError(f"{name}: expected (N, {columns}) finite numbers, found {value.shape}")
    return value


def _indices(value, name: str, count: int) -> np.ndarray:
    value = _rows(value, name, 3)
    if value.size and not 0 <= value.min() <= value.max() < count:
        found = f"{value.min()}..{value.max()}"
        raise ValueError(f"{name}: expected numbers in 0..{count - 1}, found {found}")
    return value.astype(np.int64) + 1


def write_obj(
    path: str | os.PathLike,
    vertices,
    faces,
    *,
    uvcoords=None,
    uvfaces=None,
    colours=None,
    texture=None,
    normals=None,
) -> list[Path]:
    """Write a mesh; the same arrays give the same bytes.

    Args:
        path: of the ``.obj``; the files beside it take its stem.
        vertices: (V, 3), metres; written with seven digits after the point.
        faces: (F, 3) 0-based vertex numbers.
        uvcoords, uvfaces: (T, 2) with v up and (F, 3) 0-based, or None.
        colours: (V, 3) in 0..1 written behind the vertices, or None.
        texture: (H, W, 3) uint8 RGB, row 0 is v = 1; needs the chart. None writes no material.
        normals: (H, W, 3) uint8 RGB, normal * 0.5 + 0.5 in the chart, named by the material.

    Returns:
        The files written, the ``.obj`` last.

    Raises:
        ValueError: arrays of other shapes, or numbers out of range.
    """
    path = Path(path)
    if path.suffix != ".obj":
        raise ValueError(f"{path}: expected a name that ends in .obj")
    vertices = _rows(vertices, "vertices", 3)
    corners = _indices(faces, "faces", len(vertices))
    if (uvcoords is None) != (uvfaces is None):
        raise ValueError("uvcoords and uvfaces: expected both or neither")
    if uvcoords is None and (texture is not None or normals is not None):
        raise ValueError("texture: needs uvcoords and uvfaces")
    lines = []
    if texture is not None or normals is not None:
        lines.append(f"mtllib {path.stem}.mtl")
    if colours is None:
        lines += ["v {:.7f} {:.7f} {:.7f}".format(*row) for row in vertices.tolist()]
    else:
        colours = _rows(colours, "colours", 3)
        if len(colours) != len(vertices):
            raise ValueError(f"colours: expected {len(vertices)} rows, found {len(colours)}")
        table = np.concatenate([vertices, colours], 1).tolist()
        form = "v {:.7f} {:.7f} {:.7f} {:.4f} {:.4f} {:.4f}"
        lines += [form.format(*row) for row in table]
    if uvcoords is None:
        lines += ["f {} {} {}".format(*row) for row in corners.tolist()]
    else:
        uvcoords = _rows(uvcoords, "uvcoords", 2)
        chart = _indices(uvfaces, "uvfaces", len(uvcoords))
        if len(chart) != len(corners):
            raise ValueError(f"uvfaces: expected {len(corners)} rows, found {len(chart)}")
        lines += ["vt {:.7f} {:.7f}".format(*row) for row in uvcoords.tolist()]
        if texture is not None or normals is not None:
            lines.append(f"usemtl {MATERIAL}")
        pairs = np.stack([corners, chart], -1).reshape(-1, 6).tolist()
        lines += ["f {}/{} {}/{} {}/{}".format(*row) for row in pairs]
    written = _write_material(path, texture, normals)
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="ascii")
    return [*written, path]


def _write_material(path: Path, texture, normals) -> list[Path]:
    maps = {"map_Kd": (f"{path.stem}.png", texture), "disp": (f"{path.stem}_normals.png", normals)}
    lines, written = [f"newmtl {MATERIAL}"], []
    for keyword, (name, picture) in maps.items():
        if picture is None:
            continue
        picture = _picture(picture, name)
        write_png(path.with_name(name), picture)
        lines.append(f"{keyword} {name}")
        written.append(path.with_name(name))
    if not written:
        return []
    material = path.with_suffix(".mtl")
    with replacing(material) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*written, material]


def read_textured_obj(path: str | os.PathLike) -> TexturedMesh:
    """Read a mesh with its vertex colours and the pictures of its (first) material.

    Only files in the mesh's own folder are read; other names are looked for there by their last
    part, because some writers put absolute names into the material.

    Raises:
        ValueError: see :func:`regaze.face3d.objfile.read_obj`; also when a file that the mesh
            names is missing or is not a picture.
    """
    path = Path(path)
    mesh = read_obj(path)
    colours, material = [], None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("v ") and len(words := line.split()) >= 7:
            colours.append([float(word) for word in words[4:7]])
        elif line.startswith("mtllib ") and material is None:
            material = _beside(path, line.split(maxsplit=1)[1])
    maps = {}
    if material is not None:
        for line in material.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split(maxsplit=1)
            if len(words) == 2 and words[0] in ("map_Kd", "disp") and words[0] not in maps:
                maps[words[0]] = _read_picture(_beside(path, words[1]))
    full = len(colours) == len(mesh.vertices)
    return TexturedMesh(
        mesh, np.array(colours) if full else None, maps.get("map_Kd"), maps.get("disp")
    )


def _beside(path: Path, name: str) -> Path:
    found = path.with_name(name.strip().replace("\\", "/").rsplit("/", 1)[-1])
    if not found.is_file():
        raise ValueError(f"{path}: names {name.strip()!r}, which is not in its folder")
    return found


def _read_picture(path: Path) -> np.ndarray:
    return np.ascontiguousarray(read_photo(path)[:, :, ::-1])
