"""The texture chart: values of the mesh as maps, detail displacement, texture extraction.

Chart coordinates are those of OBJ files (u right, v up, 0..1); maps are images, so row 0 is
v = 1. A position in the chart as an image point in [-1, 1] is (2u - 1, 1 - 2v).
Formulas as in ``yfeng95/DECA`` and ``radekd91/emoca``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regaze.face3d.rasterize import rasterize
from regaze.face3d.shading import vertex_normals

MARGIN_X, MARGIN_Y = 2, 5
"""Columns and rows at each side of a map that the detail mesh leaves out (and one more at the
far sides, where a cell would have no neighbour)."""


def chart_points(uvcoords: Tensor) -> Tensor:
    """Chart coordinates (T, 2) as image points (T, 3): x, y in [-1, 1] with y down, z = 1."""
    u, v = uvcoords.unbind(-1)
    return torch.stack([2 * u - 1, 1 - 2 * v, torch.ones_like(u)], -1)


def to_ndc(points: Tensor, height: int | None = None, width: int | None = None) -> Tensor:
    """Image points (B, V, 3), x right and y down, in the rasteriser's axes.

    With a height and a width the points span [-1, 1] along both sides of a picture that is not
    square, while the rasteriser's [-1, 1] is its shorter side.
    """
    sx = sy = 1.0
    if height is not None and width is not None:
        sx, sy = (1.0, height / width) if height > width else (width / height, 1.0)
    return points * points.new_tensor([-sx, -sy, 1.0])


class Hits:
    """The hit pixels of a rasterised batch of one topology, to interpolate values over.

    Args:
        pix_to_face: (B, H, W) packed triangle numbers, -1 where empty.
        bary: (B, H, W, 3) weights.
        count: triangles per mesh.
    """

    def __init__(self, pix_to_face: Tensor, bary: Tensor, count: int):
        self.shape = pix_to_face.shape
        self.where = (pix_to_face >= 0).nonzero(as_tuple=True)
        self.mesh = self.where[0]
        self.face = pix_to_face[self.where] - count * self.mesh
        self.weights = bary[self.where]
        self.pixels, self.count = pix_to_face, count

    @property
    def mask(self) -> Tensor:
        """(B, 1, H, W), 1 where there is a mesh, else 0."""
        return (self.pixels >= 0).to(self.weights.dtype)[:, None]

    @property
    def triangles(self) -> Tensor:
        """(B, 1, H, W) numbers of triangles in their mesh, -1 where there is none."""
        return torch.where(self.pixels >= 0, self.pixels % self.count, -1)[:, None]

    def of_vertices(self, values: Tensor, faces: Tensor) -> Tensor:
        """Values (B, V, D) of vertices as pictures (B, D, H, W), zero off the mesh.

        Args:
            faces: (F, 3) vertex numbers.
        """
        rows = faces[self.face] + (values.shape[1] * self.mesh)[:, None]
        flat = values.flatten(0, 1)
        return self._picture([flat.index_select(0, row) for row in rows.unbind(1)])

    def of_corners(self, values: Tensor) -> Tensor:
        """Values (F, 3, D) of the triangles' corners, the same in all meshes, as pictures."""
        return self._picture([part.index_select(0, self.face) for part in values.unbind(1)])

    def _picture(self, corners: list[Tensor]) -> Tensor:
        """Weighted sums of three corners (hits, D) each, put into their pixels."""
        weights = self.weights.to(corners[0].dtype)
        a, b, c = (weights[:, i : i + 1] * corner for i, corner in enumerate(corners))
        values = a + b + c
        picture = values.new_zeros(*self.shape, values.shape[-1])
        return picture.index_put(self.where, values).permute(0, 3, 1, 2)


class Chart(nn.Module):
    """Topology of a mesh and its chart, with the chart rasterised once.

    Args:
        faces: (F, 3) vertex numbers.
        uvcoords: (T, 2) chart coordinates.
        uvfaces: (F, 3) numbers into ``uvcoords``; the lists differ at seams.
        size: side of the maps in pixels.
        backend: of the rasteriser.
    """

    faces: Tensor
    uvfaces: Tensor
    face_points: Tensor
    pixels: Tensor
    weights: Tensor
    dense_faces: Tensor

    def __init__(self, faces, uvcoords, uvfaces, size: int = 256, backend: str = "auto"):
        super().__init__()
        faces, uvfaces = (
            torch.as_tensor(np.asarray(x), dtype=torch.int64) for x in (faces, uvfaces)
        )
        uvcoords = torch.as_tensor(np.asarray(uvcoords), dtype=torch.float32)
        self.size = size
        points = chart_points(uvcoords)
        with torch.no_grad():
            # A picture of the chart is flat: the lower triangle wins where charts overlap.
            seen = rasterize(
                to_ndc(points[None]), uvfaces[None], size, backend=backend, with_dists=False
            )
        self.register_buffer("faces", faces, persistent=False)
        self.register_buffer("uvfaces", uvfaces, persistent=False)
        self.register_buffer("face_points", points[uvfaces], persistent=False)
        self.register_buffer("pixels", seen.pix_to_face[..., 0], persistent=False)
        self.register_buffer("weights", seen.bary[..., 0, :], persistent=False)
        self.register_buffer("dense_faces", dense_triangles(size, size), persistent=False)

    def world2uv(self, values: Tensor) -> Tensor:
        """Values of the vertices (B, V, D) as maps (B, D, size, size), zero outside the chart."""
        batch, count = len(values), len(self.faces)
        first = count * torch.arange(batch, device=values.device)[:, None, None]
        pixels = torch.where(self.pixels >= 0, self.pixels + first, -1)
        hits = Hits(pixels, self.weights.expand(batch, -1, -1, -1), count)
        return hits.of_vertices(values, self.faces)

    def displaced_normals(
        self,
        displacement: Tensor,
        vertices: Tensor,
        normals: Tensor,
        mask: Tensor | None = None,
        fixed: Tensor | None = None,
        blend: bool = True,
    ) -> Tensor:
        """Normals (B, 3, size, size) of the mesh displaced by a map.

        Args:
            displacement: (B, 1, size, size) in metres along the normal, 0 where it has no say.
            vertices, normals: (B, V, 3) of the coarse mesh, world frame.
            mask: (1 or B, 1, size, size) in 0..1, where the displacement acts; None is all.
            fixed: (size, size) displacement that every head has; never masked.
            blend: with the coarse normals outside the mask, as DECA; EMOCA does not.
        """
        mask = torch.ones_like(displacement[:1]) if mask is None else mask
        position, coarse = self.world2uv(vertices).detach(), self.world2uv(normals).detach()
        height = displacement * mask
        if fixed is not None:
            height = height + fixed[None, None]
        surface = (position + height * coarse).permute(0, 2, 3, 1).flatten(1, 2)
        detail = vertex_normals(surface, self.dense_faces)
        detail = detail.unflatten(1, (self.size, self.size)).permute(0, 3, 1, 2)
        return detail * mask + coarse * (1 - mask) if blend else detail

    def extract_texture(self, images: Tensor, projected: Tensor) -> Tensor:
        """Colours (B, 3, size, size) that a photo has where the mesh's surface is projected.

        Args:
            images: (B, 3, H, W).
            projected: (B, V, 3) image points in [-1, 1], y down. Surfaces that look away from
                the camera get the colour of what hides them.
        """
        points = self.world2uv(projected)[:, :2].permute(0, 2, 3, 1)
        return F.grid_sample(images, points, mode="bilinear", align_corners=False)


def blend_texture(extracted: Tensor, mask: Tensor, base: Tensor | float = 0.7) -> Tensor:
    """Extracted colours inside a mask in 0..1, a synthetic texture (or a grey) outside."""
    return extracted * mask + base * (1 - mask)


@lru_cache(maxsize=8)
def _dense_triangles(height: int, width: int) -> Tensor:
    x = torch.arange(MARGIN_X, max(width - 1 - MARGIN_X, MARGIN_X))
    y = torch.arange(MARGIN_Y, max(height - 1 - MARGIN_Y, MARGIN_Y))
    corner = (y[None, :] * width + x[:, None]).reshape(-1, 1)
    first = corner + torch.tensor([[0, width, 1]])
    second = corner + torch.tensor([[1, width, width + 1]])
    return torch.stack([first, second], 1).reshape(-1, 3)


def dense_triangles(height: int, width: int) -> Tensor:
    """Triangles (N, 3) int64 over the pixels of a map, numbered y * width + x.

    Two per cell, column by column, within :data:`MARGIN_X` and :data:`MARGIN_Y`; none for a map
    that is smaller than its margins.
    """
    return _dense_triangles(height, width).clone()


def dense_mesh(
    vertices: np.ndarray,
    normals: np.ndarray,
    displacement: np.ndarray,
    texture: np.ndarray,
    template: dict,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """One coarse mesh with a displacement map as a mesh of one vertex per pixel of the map.

    Args:
        vertices, normals: (V, 3) of the coarse mesh.
        displacement: (H, W) in metres.
        texture: (H, W, 3), any dtype.
        template: arrays named as in DECA's ``texture_data_256.npy``: ``x_coords``, ``y_coords``
            per pixel, ``valid_pixel_ids`` (N,), ``valid_pixel_3d_faces`` (N, 3) coarse vertices,
            ``valid_pixel_b_coords`` (N, 3) and, if there, ``f``.

    Returns:
        vertices (N, 3) float32, colours (N, 3) of the texture's dtype, triangles or None.
    """
    ids = np.asarray(template["valid_pixel_ids"], np.int64)
    column = np.asarray(template["x_coords"])[ids].astype(np.int64)
    row = np.asarray(template["y_coords"])[ids].astype(np.int64)
    corners = np.asarray(template["valid_pixel_3d_faces"], np.int64)
    weights = np.asarray(template["valid_pixel_b_coords"], np.float64)[:, :, None]
    point = (np.asarray(vertices, np.float64)[corners] * weights).sum(1)
    normal = (np.asarray(normals, np.float64)[corners] * weights).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    moved = point + normal * np.asarray(displacement, np.float64)[row, column][:, None]
    triangles = template.get("f")
    triangles = None if triangles is None else np.asarray(triangles, np.int64)
    return moved.astype(np.float32), np.asarray(texture)[row, column], triangles
