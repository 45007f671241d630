"""Masks from the fitted head: codes to a mesh, drawn where the encoder saw it in the patch.

The mesh has no hair and nothing in front of the face, so that these masks are those of the bare
head; eyeballs show where the lids let them.
"""

from __future__ import annotations

import logging
import os

import numpy as np
import torch

from regaze.codes.latents import LatentsReader
from regaze.face3d.crop import to_image_space
from regaze.face3d.drawing import to_drawing
from regaze.face3d.encoders import PRESETS
from regaze.face3d.flame import Flame
from regaze.face3d.model import FlameModel, load_flame, model_hash
from regaze.face3d.patches import crop_transforms
from regaze.face3d.rasterize import rasterize
from regaze.face3d.uv import to_ndc
from regaze.faces import FacesReader
from regaze.masks import NAMES, NUMBER, MasksWriter

log = logging.getLogger(__name__)

PARTS = {"lids": "skin", "inner_eye": "skin"}
"""Regions of a head model that are no parts of their own, and what they count to."""

_ROWS = 32
_CODES = ("shape", "expression", "pose", "camera")


def vertex_parts(model: FlameModel) -> np.ndarray:
    """Part number (V,) uint8 of every vertex.

    From the model's regions; without them the vertices that hang on the eyes' joints alone are
    eyeballs, those that move mostly with the root joint, below the neck's, are neck, and all
    others skin.
    """
    names = list(model.meta.get("regions", []))
    if model.regions is not None and names:
        numbers = [NUMBER.get(PARTS.get(name, name), NUMBER["skin"]) for name in names]
        return np.array(numbers, np.uint8)[model.regions]
    parts = np.full(len(model.v_template), NUMBER["skin"], np.uint8)
    parts[model.weights[:, 0] > 0.5] = NUMBER["neck"]
    parts[model.weights[:, 3] > 0.999] = NUMBER["left_eye"]
    parts[model.weights[:, 4] > 0.999] = NUMBER["right_eye"]
    return parts


def face_parts(model: FlameModel) -> np.ndarray:
    """Part number (F,) uint8 of every triangle: that of most of its corners, else of the last."""
    corners = vertex_parts(model)[model.f]
    return np.where(corners[:, 0] == corners[:, 1], corners[:, 0], corners[:, 2])


def crop_size_of(encoder: str) -> int:
    """Side of the crops that an encoder of this recorded name looked at; 224 for any other."""
    preset = encoder.rsplit("-", 1)[-1]
    return PRESETS.get(preset, PRESETS["reference"]).size_px


class MeshMasks:
    """Draws masks of codes.

    Args:
        model: the head model that the codes belong to.
        rasterizer: backend, see :mod:`regaze.face3d.rasterize`.
    """

    def __init__(self, model: FlameModel, rasterizer: str = "auto"):
        self.flame, self.rasterizer = Flame(model), rasterizer
        self.parts = face_parts(model)
        self.told_apart = [NAMES[number] for number in np.unique(self.parts)] + ["background"]

    @torch.inference_mode()
    def draw(
        self,
        codes: dict[str, np.ndarray],
        transforms: np.ndarray,
        crop_size: int,
        patch_size: tuple[int, int],
    ) -> np.ndarray:
        """Part numbers (B, H, W) uint8.

        Args:
            codes: ``shape, expression, pose, camera`` of B rows.
            transforms: (B, 3, 3), see :func:`regaze.face3d.drawing.to_drawing`.
            crop_size, patch_size: as there.
        """
        rows = {name: torch.from_numpy(np.ascontiguousarray(codes[name])) for name in _CODES}
        vertices = self.flame(rows["shape"], rows["expression"], rows["pose"]).vertices
        seen = to_image_space(vertices, rows["camera"])
        width, height = patch_size
        points = to_ndc(to_drawing(seen, transforms, crop_size, patch_size), height, width)
        # the rasteriser draws what lies in front of z = 0
        nearest = points[..., 2].amin(1)[:, None]
        points[..., 2] += 1 - nearest
        hits = rasterize(
            points,
            self.flame.faces[None],
            (height, width),
            backend=self.rasterizer,
            with_dists=False,
        ).pix_to_face[..., 0]
        faces = np.where(hits >= 0, hits % len(self.parts), 0)
        return np.where(hits >= 0, self.parts[faces], np.uint8(NUMBER["background"]))


def write_mesh(
    faces: str | os.PathLike,
    latents: str | os.PathLike,
    head: str | os.PathLike,
    out: str | os.PathLike,
    *,
    rasterizer: str = "auto",
) -> int:
    """Write the masks of one faces file from its latents.

    Args:
        faces: the faces HDF5, with landmarks.
        latents: the latents of this file.
        head: the head model's ``.npz``.
        out: the masks HDF5.
        rasterizer: see :class:`MeshMasks`.

    Returns:
        Number of rows with masks.

    Raises:
        ValueError: the latents are not those of the faces, or of another head model.
    """
    reader, model = FacesReader(faces), load_flame(head)
    codes = LatentsReader(
        latents, reader, expect={"head_sha256": model_hash(model)}, columns=_CODES
    )
    size = crop_size_of(codes.identity["encoder"])
    drawer = MeshMasks(model, rasterizer)
    version = codes.identity["checkpoint_sha256"]
    patch = reader.patch_size or (0, 0)
    with MasksWriter(
        out, method="mesh", version=version, told_apart=drawer.told_apart, patch_size=patch
    ) as writer:
        for part in writer.parts(reader, _ROWS):
            valid = codes.detected[part]
            masks = np.zeros((len(part), patch[1], patch[0]), np.uint8)
            if valid.any():
                marks = reader.dataset("landmarks", part[valid])
                transforms, _ = crop_transforms(marks, patch, size)
                found = codes.read(part[valid])
                masks[valid] = drawer.draw(found, transforms, size, patch)
            writer.add(masks, valid)
    log.info("%s: masks of %d of %d rows", out, codes.detected.sum(), len(reader))
    return int(codes.detected.sum())
