"""From normalised patches to what a recogniser was trained on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.faces import FacesReader
from regaze.identity.base import FaceRecogniser
from regaze.images import EYE_BOXES_64
from regaze.views import is_ffhq

TEMPLATE_EYES_112 = ((38.2946, 51.6963), (73.5318, 51.5014))
"""Eye centres (x, y) of ArcFace's five-point template, pixel centres at whole numbers."""

_STED_PER_MM = 500 / (600 * 128)
"""Widths of the patch per millimetre at the face in the sted normalisation."""


def why_not_sted_view(reader: FacesReader) -> str:
    """Return what view these faces have instead of the sted normalisation's; empty for that one.

    Only of that view the eyes' places in the patch are known. Files without attributes are
    upstream's own, whose square patches are of that camera.
    """
    width, height = reader.patch_size or (1, 1)
    if width != height:
        return f"{width}x{height} patches"
    told = reader.attributes
    if is_ffhq(told):
        return "framing ffhq"
    if not {"focal", "distance", "patch_size"} <= set(told):
        return ""
    per_mm = float(told["focal"]) / (float(told["distance"]) * float(told["patch_size"][0]))
    if abs(per_mm / _STED_PER_MM - 1) > 0.02:
        return str(told.get("variant", "another normalisation"))
    return ""


def _placement(size: int) -> tuple[float, float, float]:
    """Return (a, b, c) of the map x' = a x + b, y' = a y + c from the recogniser's input to the
    patch, both in [-1,1], that lays the eyes of the sted normalisation on the template's."""
    eyes = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in EYE_BOXES_64]
    wanted = [((x + 0.5) / 112, (y + 0.5) / 112) for x, y in TEMPLATE_EYES_112]
    shrink = (eyes[1][0] - eyes[0][0]) / 64 / (wanted[1][0] - wanted[0][0])
    middle = [sum(eye[axis] for eye in eyes) / 128 for axis in (0, 1)]
    goal = [sum(eye[axis] for eye in wanted) / 2 for axis in (0, 1)]
    moved = [2 * (m - shrink * g) + shrink - 1 for m, g in zip(middle, goal, strict=True)]
    return shrink, moved[0], moved[1]


def describe(network: FaceRecogniser, sted_view: bool) -> str:
    """Return in words what the network is shown, for the record beside the numbers."""
    order = ", as B,G,R" if network.channels == "bgr" else ""
    if network.alignment == "template" and sted_view:
        return f"eyes laid on ArcFace's template, border repeated{order}"
    return f"whole patch resized to {network.size_px} px{order}"


def align(images: Tensor, network: FaceRecogniser, sted_view: bool = True) -> Tensor:
    """Return (B,3,S,S) in [-1,1], S the network's ``size_px``, of square patches (B,3,H,H).

    Normalised patches hold the eyes in place, so the similarity that recognisers compute from five
    landmarks is one and the same for all of them. The template shows more of the head than the
    patch; what is missing repeats the border. Patches of another field of view than sted's
    (``sted_view`` false), and all patches of networks trained on whole patches, are resized with
    antialiasing instead.
    """
    size = network.size_px
    if network.alignment == "template" and sted_view:
        a, b, c = _placement(size)
        move = images.new_tensor([[a, 0, b], [0, a, c]]).expand(len(images), 2, 3)
        grid = F.affine_grid(move, [len(images), 3, size, size], align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def embed_patches(network: FaceRecogniser, images: Tensor, sted_view: bool = True) -> Tensor:
    """Return unit vectors (B,E) of R,G,B patches (B,3,H,H) in [-1,1], on the network's device."""
    images = images.to(next(network.parameters()).device, torch.float32)
    return network.embed(align(images, network, sted_view))
