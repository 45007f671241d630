"""Which triangle each pixel sees, how far it is and where in it the pixel lies.

One contract, that of ``rasterize_meshes`` in ``facebookresearch/pytorch3d`` without blur, and
four backends that agree pixel for pixel. (Exceptions: a pixel's centre on an edge within
rounding; with embree also surfaces that come within 5e-4 of each other in depth.)

========== =========================================================== ================
backend    how                                                         layers per pixel
========== =========================================================== ================
embree     one orthographic ray per pixel on the CPU, mesh by mesh     1
pytorch3d  that package, if installed; for CUDA and batches            any
torch      all triangles of a batch at once; for CUDA without it       1
reference  a loop over the triangles in NumPy, for tests               any
========== =========================================================== ================

Depth and barycentric weights are differentiable with respect to the vertices with all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from regaze.face3d.rasterize import pytorch3d, reference, scan
from regaze.face3d.rasterize.barycentric import interpolate

BACKENDS = ("auto", "pytorch3d", "embree", "torch", "reference")

__all__ = ["BACKENDS", "Fragments", "choose_backend", "rasterize"]


class Fragments(NamedTuple):
    """What the pixels see; every entry is -1 where a slot is empty.

    Attributes:
        pix_to_face: (B, H, W, K) int64, numbers in the packed list of triangles: mesh n adds the
            triangle counts of the meshes before it. Nearest first.
        zbuf: (B, H, W, K) depth.
        bary: (B, H, W, K, 3) barycentric weights of the pixel's centre.
        dists: (B, H, W, K) squared NDC distance to the triangle's nearest edge, negative because
            the centre lies inside; None if not asked for.
    """

    pix_to_face: Tensor
    zbuf: Tensor
    bary: Tensor
    dists: Tensor | None


def choose_backend(backend: str, device: torch.device | str, faces_per_pixel: int = 1) -> str:
    """Name of the backend that ``backend`` stands for; results record this name.

    ``auto`` is embree on the CPU; on CUDA it is pytorch3d, or torch where that is not installed.
    For several layers per pixel it is pytorch3d or reference.

    Raises:
        ValueError: an unknown name, or several layers of a backend that gives one.
    """
    if backend not in BACKENDS:
        raise ValueError(f"rasteriser backend: expected one of {BACKENDS}, found {backend!r}")
    if backend == "auto":
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu and pytorch3d.available():
            return "pytorch3d"
        if faces_per_pixel != 1:
            return "reference"
        return "torch" if on_gpu else "embree"
    if backend in ("embree", "torch") and faces_per_pixel != 1:
        raise ValueError(
            f"faces_per_pixel: the {backend} backend gives 1, found {faces_per_pixel}; "
            "choose 'reference' or 'pytorch3d'"
        )
    return backend


def rasterize(
    verts: Tensor,
    faces: Tensor,
    image_size: int | tuple[int, int],
    faces_per_pixel: int = 1,
    perspective_correct: bool = False,
    cull_backfaces: bool = False,
    backend: str = "auto",
    with_dists: bool = True,
) -> Fragments:
    """Rasterise meshes.

    Args:
        verts: (B, V, 3) normalised device coordinates, +x left, +y up, +z away; the shorter side
            of the picture spans [-1, 1].
        faces: (B, F, 3) or, for all meshes, (1, F, 3) vertex numbers.
        image_size: side, or (height, width), in pixels.
        faces_per_pixel: K, layers per pixel.
        perspective_correct: weights for vertices that went through a perspective division.
        cull_backfaces: drop triangles of negative area.
        backend: one of :data:`BACKENDS`.
        with_dists: False leaves ``dists`` out, which saves time.

    Returns:
        :class:`Fragments` on ``verts``' device. Triangles with a vertex at z < 1e-8 and those
        without area are not drawn; a centre on an edge is outside.

    Raises:
        ValueError: vertices that are not finite.
        ModuleNotFoundError: pytorch3d is asked for and not installed.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not torch.isfinite(verts).all():
        bad = (~torch.isfinite(verts)).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"verts: expected finite numbers, found others in mesh {bad}")
    faces = faces.to(verts.device, torch.int64).expand(len(verts), -1, -1)
    name = choose_backend(backend, verts.device, faces_per_pixel)
    rules = perspective_correct, cull_backfaces
    if name == "pytorch3d":
        size = height, width
        return Fragments(*pytorch3d.rasterize(verts, faces, size, faces_per_pixel, *rules))
    if name == "torch":
        found = scan.hits(verts.detach(), faces, height, width, *rules)
    else:
        found = _one_by_one(name, verts, faces, (height, width, faces_per_pixel), *rules)
    zbuf, bary, dists = interpolate(verts, faces, found, perspective_correct, with_dists)
    return Fragments(found, zbuf, bary, dists)


def _one_by_one(
    name: str, verts: Tensor, faces: Tensor, shape: tuple[int, int, int], *rules: bool
) -> Tensor:
    """Packed triangle numbers (B, H, W, K) of a backend that takes one mesh in NumPy."""
    hits = reference.hits
    if name == "embree":
        from regaze.face3d.rasterize import embree

        hits = embree.hits
    points = verts.detach().cpu().double().numpy()
    triangles = faces.detach().cpu().numpy()
    found = torch.full((len(verts), *shape), -1, dtype=torch.int64)
    for mesh in range(len(verts)):
        ids = hits(points[mesh], triangles[mesh], *shape, *rules)
        ids[ids >= 0] += mesh * faces.shape[1]
        found[mesh] = torch.from_numpy(ids)
    return found.to(verts.device)
