"""The rasteriser of ``facebookresearch/pytorch3d``, whose conventions the contract follows.

The package is optional and imported when it is asked for: it is the fast way on CUDA and for
batches. Everything, gradients included, is its own.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache

from torch import Tensor


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether pytorch3d is installed."""
    return importlib.util.find_spec("pytorch3d") is not None


def rasterize(
    verts: Tensor,
    faces: Tensor,
    size: tuple[int, int],
    faces_per_pixel: int,
    perspective_correct: bool,
    cull_backfaces: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """pix_to_face, zbuf, bary and dists of (B, V, 3) and (B, F, 3); see the package's contract.

    Raises:
        ModuleNotFoundError: pytorch3d is not installed.
    """
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"rasteriser backend 'pytorch3d': {error}; install pytorch3d (envs/pytorch3d.yaml) "
            "or choose 'embree'"
        ) from error
    return rasterize_meshes(
        Meshes(verts=list(verts.float()), faces=list(faces)),
        image_size=size,
        blur_radius=0.0,
        faces_per_pixel=faces_per_pixel,
        perspective_correct=perspective_correct,
        clip_barycentric_coords=False,
        cull_backfaces=cull_backfaces,
    )
