"""Read Wavefront OBJ meshes: vertices, texture coordinates, polygons."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


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
