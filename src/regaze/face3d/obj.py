"""Wavefront OBJ meshes: read vertices, texture coordinates and polygons; write with a texture.

Written in the layout of the demos of ``yfeng95/DECA`` and ``radekd91/emoca``: ``NAME.obj`` with
lines ``f v/vt``, ``NAME.mtl`` with the material ``FaceTexture``, ``NAME.png`` and
``NAME_normals.png``. File names inside are relative, so that a folder can be moved.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regaze.face3d.drawing import write_png
from regaze.outputs import replacing

MATERIAL = "FaceTexture"


@dataclass(frozen=True)
class ObjMesh:
    """A mesh as its file has it.

    Attributes:
        vertices: (V, 3) float64.
        uvs: (T, 2) float64 texture coordinates, v up.
        counts: (P,) corners of each polygon.
        corners: (sum of counts, 2) int64 rows of vertices and of uvs, 0-based; -1 without uv.
    """

    vertices: np.ndarray
    uvs: np.ndarray
    counts: np.ndarray
    corners: np.ndarray

    def triangles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Polygons as fans from their first corner.

        Returns:
            Rows of vertices (F, 3), rows of uvs (F, 3) and the polygon (F,) of every triangle, in
            the order of the polygons.
        """
        start = np.concatenate([[0], np.cumsum(self.counts)])[:-1]
        fans = self.counts - 2
        polygon = np.repeat(np.arange(len(self.counts)), fans)
        step = np.arange(len(polygon)) - np.repeat(np.cumsum(fans) - fans, fans)
        first = start[polygon]
        rows = np.stack([first, first + step + 1, first + step + 2], -1)
        return self.corners[rows, 0], self.corners[rows, 1], polygon


def _lines(path: str | os.PathLike) -> list[bytes]:
    try:
        return Path(path).read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def _numbers(path, lines: list[bytes], mark: bytes, columns: int) -> np.ndarray:
    rows = [line[len(mark) :].split()[:columns] for line in lines if line.startswith(mark)]
    try:
        out = np.array(rows, np.float64).reshape(-1, columns)
    except ValueError:
        word = mark.decode().strip()
        raise ValueError(f"{path}: a line '{word}' lacks its {columns} numbers") from None
    if not np.isfinite(out).all():
        raise ValueError(f"{path}: a line '{mark.decode().strip()}' holds NaN or infinity")
    return out


def read_vertices(path: str | os.PathLike) -> np.ndarray:
    """Vertices (V, 3) of an OBJ file alone.

    Raises:
        ValueError: no file, no vertices, or a line that cannot be read; the message names it.
    """
    out = _numbers(path, _lines(path), b"v ", 3)
    if not len(out):
        raise ValueError(f"{path}: no vertices")
    return out


def read_obj(path: str | os.PathLike) -> ObjMesh:
    """Read a mesh; normals, materials, groups and vertex colours are ignored.

    Raises:
        ValueError: no file, a line that cannot be read, or a polygon that names a vertex or a
            texture coordinate the file lacks; the message names it.
    """
    lines = _lines(path)
    vertices, uvs = _numbers(path, lines, b"v ", 3), _numbers(path, lines, b"vt ", 2)
    counts, corners = [], []
    for number, line in enumerate(lines, 1):
        if not line.startswith(b"f "):
            continue
        words = line.split()[1:]
        if len(words) < 3:
            raise ValueError(f"{path}: line {number}: a polygon of {len(words)} corners")
        counts.append(len(words))
        try:
            for word in words:
                parts = word.split(b"/")
                with_uv = len(parts) > 1 and parts[1]
                corners.append((int(parts[0]) - 1, int(parts[1]) - 1 if with_uv else -1))
        except ValueError:
            raise ValueError(f"{path}: line {number}: a corner {word[:40]!r}") from None
    if not counts or not len(vertices):
        raise ValueError(f"{path}: no vertices or no polygons")
    corners = np.array(corners, np.int64)
    for column, name, size in ((0, "vertex", len(vertices)), (1, "texture coordinate", len(uvs))):
        low = 0 if column == 0 else -1
        if corners[:, column].min() < low or corners[:, column].max() >= size:
            raise ValueError(
                f"{path}: polygons name {name} {corners[:, column].max() + 1} "
                f"(or one below 1), the file has {size}"
            )
    return ObjMesh(vertices, uvs, np.array(counts, np.int64), corners)


def write_obj(
    path: str | os.PathLike,
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    uvcoords: np.ndarray | None = None,
    uvfaces: np.ndarray | None = None,
    colours: np.ndarray | None = None,
    texture: np.ndarray | None = None,
    normals: np.ndarray | None = None,
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
    """
    path = Path(path)
    written = _write_material(path, texture, normals)
    lines = [f"mtllib {path.stem}.mtl"] if written else []
    form, table = "v {:.7f} {:.7f} {:.7f}", vertices
    if colours is not None:
        form, table = f"{form} {{:.4f}} {{:.4f}} {{:.4f}}", np.concatenate([vertices, colours], 1)
    lines += [form.format(*row) for row in table.tolist()]
    corners = faces.astype(np.int64) + 1
    if uvcoords is None:
        lines += ["f {} {} {}".format(*row) for row in corners.tolist()]
    else:
        lines += ["vt {:.7f} {:.7f}".format(*row) for row in uvcoords.tolist()]
        if written:
            lines.append(f"usemtl {MATERIAL}")
        pairs = np.stack([corners, uvfaces.astype(np.int64) + 1], -1).reshape(-1, 6).tolist()
        lines += ["f {}/{} {}/{} {}/{}".format(*row) for row in pairs]
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="ascii")
    return [*written, path]


def _write_material(path: Path, texture, normals) -> list[Path]:
    maps = {"map_Kd": (f"{path.stem}.png", texture), "disp": (f"{path.stem}_normals.png", normals)}
    lines, written = [f"newmtl {MATERIAL}"], []
    for keyword, (name, picture) in maps.items():
        if picture is None:
            continue
        write_png(path.with_name(name), picture)
        lines.append(f"{keyword} {name}")
        written.append(path.with_name(name))
    if not written:
        return []
    material = path.with_suffix(".mtl")
    with replacing(material) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*written, material]
