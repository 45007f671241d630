"""Vertex normals and light on them; torch, differentiable, all shapes batched.

Formulas and constants as rendered by DECA (Feng et al. 2021, Learning an animatable detailed 3D
face model from in-the-wild images; ``yfeng95/DECA``), which takes its nine-term lighting from
Ramamoorthi and Hanrahan 2001, An efficient representation for irradiance environment maps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SH_CONSTANTS = (
    1 / math.sqrt(4 * math.pi),
    *[2 * math.pi / 3 * math.sqrt(3 / (4 * math.pi))] * 3,
    *[3 * math.pi / 4 * math.sqrt(5 / (12 * math.pi))] * 3,
    3 * math.pi / 8 * math.sqrt(5 / (12 * math.pi)),
    math.pi / 8 * math.sqrt(5 / (4 * math.pi)),
)
"""Factors of the nine terms: spherical harmonics times the cosine lobe's weights."""

SHAPE_LIGHTS = ((-1, 1, 1), (1, 1, 1), (-1, -1, 1), (1, -1, 1), (0, 0, 1))
"""Directions of the five white lights of a shape image."""

SHAPE_INTENSITY = 1.7
SHAPE_GREY = 180 / 255


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals of the vertices: area-weighted mean of the triangles around.

    Args:
        vertices: (B, V, 3).
        faces: (F, 3) vertex numbers, counter-clockwise from outside.

    Returns:
        (B, V, 3); zero where no triangle, or none with an area, touches the vertex.
    """
    a, b, c = vertices[:, faces].unbind(2)
    turned = torch.linalg.cross(b - a, c - a, dim=-1).flatten(0, 1)
    # Over one axis for the whole batch: sums along an inner axis are several times slower.
    batch, count = vertices.shape[:2]
    first = count * torch.arange(batch, device=vertices.device)[:, None]
    total = torch.zeros_like(vertices).flatten(0, 1)
    for corner in range(3):
        total = total.index_add(0, (faces[:, corner] + first).flatten(), turned)
    total = total.view_as(vertices)
    return F.normalize(total, dim=-1, eps=1e-6)


def sh_basis(normals: Tensor, dim: int = 1) -> Tensor:
    """The nine lighting terms of normals with x, y, z along ``dim``; they replace that axis.

    Order: 1, x, y, z, xy, xz, yz, x^2 - y^2, 3 z^2 - 1, each times :data:`SH_CONSTANTS`.
    """
    x, y, z = normals.unbind(dim)
    terms = (torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1)
    scaled = [factor * term for factor, term in zip(SH_CONSTANTS, terms, strict=True)]
    return torch.stack(scaled, dim)


def sh_shading(normals: Tensor, light: Tensor) -> Tensor:
    """Light (B, 3, H, W) on normals (B, 3, H, W) from coefficients (B, 9, 3 colours).

    Not clamped: it may be negative and exceed 1.
    """
    return torch.einsum("bkhw,bkc->bchw", sh_basis(normals), light)


def point_shading(points: Tensor, normals: Tensor, lights: Tensor) -> Tensor:
    """Mean light (B, N, 3) of point lights on points (B, N, 3); the cosine is not clamped.

    Args:
        lights: (B, L, 6), position then colour.
    """
    direction = F.normalize(lights[:, :, None, :3] - points[:, None], dim=-1)
    cosine = (direction * normals[:, None]).sum(-1, keepdim=True)
    return (cosine * lights[:, :, None, 3:]).mean(1)


def directional_shading(normals: Tensor, lights: Tensor) -> Tensor:
    """Mean light (B, N, 3) of far lights on normals (B, N, 3); the cosine is clamped to [0, 1].

    Args:
        lights: (B, L, 6), direction towards the light (of any length) then colour.
    """
    direction = F.normalize(lights[:, :, :3], dim=-1)
    cosine = torch.einsum("bnd,bld->bln", normals, direction).clamp(0, 1)
    return torch.einsum("bln,blc->bnc", cosine, lights[:, :, 3:]) / lights.shape[1]


def shape_lights(like: Tensor) -> Tensor:
    """The lights (1, 5, 6) of a shape image, with the dtype and device of ``like``."""
    direction = like.new_tensor(SHAPE_LIGHTS)
    return torch.cat([direction, torch.full_like(direction, SHAPE_INTENSITY)], 1)[None]
