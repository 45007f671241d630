"""Pictures of a textured mesh: colour, normals, shape, depth; torch, differentiable.

The pipeline is DECA's (``yfeng95/DECA``, ``radekd91/emoca``): scaled orthography, colour from a
texture chart, nine-term lighting on interpolated world normals. World frame: +x the subject's
left, +y up, +z out of the face. Image points: x right, y down, in [-1, 1] over the picture, z
growing away from the viewer; see :func:`regaze.face3d.crop.to_image_space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regaze.face3d.rasterize import Fragments, choose_backend, rasterize
from regaze.face3d.shading import (
    SHAPE_GREY,
    directional_shading,
    sh_shading,
    shape_lights,
    vertex_normals,
)
from regaze.face3d.uv import Chart, Hits, to_ndc

FRONT, SHAPE_FRONT, VISIBLE = -0.05, 0.15, 0.1
"""Largest projected normal z of the front mask, of shape images and of visible landmarks."""

Size = int | tuple[int, int] | None


@dataclass(frozen=True)
class Rendering:
    """Pictures of :meth:`Renderer.forward`, float, (B, C, H, W).

    Attributes:
        images: albedo x light x alpha, over the background if there is one; not clamped.
        albedo: the texture where the mesh is, over the background if there is one.
        normals: interpolated world normals, not renormalised, zero off the mesh.
        alpha: 1 where the mesh is.
        front: 1 where the surface faces the viewer (DECA's ``pos_mask``), and off the mesh 0.
        shading: the light alone, or None when there is none.
        grid: (B, H, W, 2) chart position of every pixel in [-1, 1].
        hits: which place of the mesh every pixel sees.
        projected: (B, V, 3) the image points that were drawn.
        vertex_normals, projected_normals: (B, V, 3) of the world mesh and the projected one.
    """

    images: Tensor
    albedo: Tensor
    normals: Tensor
    alpha: Tensor
    front: Tensor
    shading: Tensor | None
    grid: Tensor
    hits: Hits
    projected: Tensor
    vertex_normals: Tensor
    projected_normals: Tensor

    @property
    def triangles(self) -> Tensor:
        """(B, 1, H, W) int64 number of the triangle that is seen, -1 off the mesh."""
        return self.hits.triangles

    def share_of(self, mask: np.ndarray | None) -> Tensor:
        """What (B, 1, H, W) of a mask (R, R) of the chart faces the viewer; None is all of it."""
        if mask is None:
            return self.front
        chart = torch.as_tensor(mask).to(self.front).expand(len(self.front), 1, -1, -1)
        return F.grid_sample(chart, self.grid, align_corners=False) * self.front


class Renderer(Chart):
    """Draws one topology.

    Args:
        faces, uvcoords, uvfaces: of the mesh, see :class:`regaze.face3d.uv.Chart`.
        image_size: side of the pictures, unless a call says another size.
        uv_size: side of maps in the chart.
        backend: of the rasteriser; ``backend_used`` says what results have to record.
    """

    def __init__(
        self,
        faces,
        uvcoords,
        uvfaces,
        image_size: int = 224,
        uv_size: int = 256,
        backend: str = "auto",
    ):
        super().__init__(faces, uvcoords, uvfaces, uv_size, backend)
        self.image_size = image_size
        self.backend = backend

    @property
    def backend_used(self) -> str:
        """The backend that ``auto`` stands for on the device where this module is."""
        return choose_backend(self.backend, self.faces.device)

    def fragments(self, projected: Tensor, size: Size = None) -> Fragments:
        """What the pixels see of image points (B, V, 3); these are not changed.

        Args:
            size: None for the renderer's own square, or (height, width): then [-1, 1] spans
                each side.
        """
        size = size or self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        points = to_ndc(projected, height, width)
        # The rasteriser draws what is in front of z = 0. (The reference adds 10, to the caller's
        # own vertices; the nearer to 0, the more exact.)
        nearest = points[..., 2:].detach().amin(1, keepdim=True)
        points = points + torch.cat([torch.zeros_like(nearest).expand(-1, -1, 2), 1 - nearest], -1)
        return rasterize(
            points, self.faces[None], (height, width), backend=self.backend, with_dists=False
        )

    def hits(self, projected: Tensor, size: Size = None) -> Hits:
        """Where image points (B, V, 3) are seen; arguments as of :meth:`fragments`."""
        seen = self.fragments(projected, size)
        return Hits(seen.pix_to_face[..., 0], seen.bary[..., 0, :], len(self.faces))

    def _surface(self, vertices: Tensor, projected: Tensor, size: Size):
        """Chart position (B, 2, H, W), projected normal z and world normals (B, 4, H, W).

        Also what is hit, and the vertex normals of the world mesh and of the projected one.
        """
        normals = vertex_normals(vertices, self.faces)
        turned = vertex_normals(projected, self.faces)
        hits = self.hits(projected, size)
        painted = hits.of_vertices(torch.cat([turned[..., 2:].detach(), normals], -1), self.faces)
        place = hits.of_corners(self.face_points[..., :2])
        return place, painted, hits, normals, turned

    def forward(
        self,
        vertices: Tensor,
        projected: Tensor,
        albedo: Tensor,
        light: Tensor | None = None,
        background: Tensor | None = None,
        size: Size = None,
    ) -> Rendering:
        """Draw meshes.

        Args:
            vertices: (B, V, 3) world frame, for normals.
            projected: (B, V, 3) image points.
            albedo: (B, 3, R, R) texture maps.
            light: (B, 9, 3) coefficients; None gives the albedo alone (as DECA's demo does).
            background: (B, 3, H, W) pictures behind the mesh; None is black.
            size: see :meth:`fragments`.
        """
        place, painted, hits, normals, turned = self._surface(vertices, projected, size)
        alpha = hits.mask
        # Pixels off the mesh read the middle of the texture; alpha takes that away again.
        grid = place.permute(0, 2, 3, 1)
        normal_images = painted[:, 1:]
        colour = F.grid_sample(albedo, grid, mode="bilinear", align_corners=False) * alpha
        shading = None if light is None else sh_shading(normal_images, light)
        images = colour if shading is None else colour * shading
        if background is not None:
            images = images + background * (1 - alpha)
            colour = colour + background * (1 - alpha)
        return Rendering(
            images=images,
            albedo=colour,
            normals=normal_images,
            alpha=alpha,
            front=(painted[:, :1] < FRONT).to(alpha.dtype),
            shading=shading,
            grid=grid,
            hits=hits,
            projected=projected,
            vertex_normals=normals,
            projected_normals=turned,
        )

    def shape_image(
        self,
        vertices: Tensor,
        projected: Tensor,
        background: Tensor | None = None,
        detail_normals: Tensor | None = None,
        size: Size = None,
    ) -> Tensor:
        """Grey pictures (B, 3, H, W) of the form under five far lights.

        Args:
            vertices, projected: (B, V, 3), as in :meth:`forward`.
            background: (B, 3, H, W) or None for black.
            detail_normals: (B, 3, uv_size, uv_size) world normals in the chart, in place of
                those of the mesh.
        """
        place, painted, hits, _, _ = self._surface(vertices, projected, size)
        alpha = hits.mask
        surface = painted[:, 1:]
        if detail_normals is not None:
            grid = place.permute(0, 2, 3, 1)
            surface = F.grid_sample(detail_normals, grid, mode="bilinear", align_corners=False)
        lights = shape_lights(surface).expand(len(surface), -1, -1)
        light = directional_shading(surface.flatten(2).transpose(1, 2), lights)
        light = light.transpose(1, 2).unflatten(2, surface.shape[2:])
        alpha = alpha * (painted[:, :1] < SHAPE_FRONT).to(alpha.dtype)
        images = SHAPE_GREY * light * alpha
        return images if background is None else images + background * (1 - alpha)

    def depth_image(self, projected: Tensor, size: Size = None, per_batch: bool = False) -> Tensor:
        """Depth pictures (B, 1, H, W): the nearest vertex 1, the farthest 0, and 0 off the mesh.

        Args:
            projected: (B, V, 3) image points.
            per_batch: take the range over the whole batch, as the reference does, and not of
                each mesh.
        """
        axes = (0, 1, 2) if per_batch else (1, 2)
        near = -projected[..., 2:]
        near = near - near.amin(axes, keepdim=True)
        near = near / near.amax(axes, keepdim=True).clamp_min(1e-12)
        return self.hits(projected, size).of_vertices(near, self.faces)

    def landmark_visibility(self, projected: Tensor, face_ids: Tensor, weights: Tensor) -> Tensor:
        """1 where a landmark's surface is turned to the viewer, else 0: (B, L).

        Args:
            projected: (B, V, 3) image points.
            face_ids: (L,) triangles and ``weights`` (L, 3) barycentric weights of the landmarks.
        """
        normals = vertex_normals(projected, self.faces)
        corners = normals[:, self.faces[face_ids.to(self.faces.device)]]
        z = (corners * weights.to(corners)[None, :, :, None]).sum(2)[..., 2]
        return (z < VISIBLE).to(projected.dtype)
