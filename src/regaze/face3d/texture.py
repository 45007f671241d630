"""Albedo from texture codes: a mean and a linear basis in the texture chart.

Layouts of FLAME's texture files: ``FLAME_albedo_from_BFM.npz`` (used by ``yfeng95/DECA`` and
``radekd91/emoca``) and ``FLAME_texture.npz`` (used by ``adobe-research/diffusion-rig``). A code
means something only with the basis that it was regressed with.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regaze.face3d.rasterize import rasterize
from regaze.face3d.uv import chart_points, to_ndc

UV_SIZE = 256
N_TEXTURE = 50

PUPIL, LIMBUS = 10.0, 29.0
"""Degrees between an eyeball's axis and the edges of its pupil and its iris."""

EYE_COLOURS = {"pupil": (14, 12, 12), "iris": (88, 60, 38), "sclera": (232, 226, 220)}
"""sRGB colours of eyeballs whose texture has none."""

FINER = 4


class TextureSpace(nn.Module):
    """Texture codes to albedo maps, without parameters.

    Args:
        mean: (R, R, 3) in 0..1, row 0 is v = 1.
        basis: (R, R, 3, K) of the same unit.
        rgb: whether the colours come in that order; FLAME's files are BGR.
        n_tex: length of the codes. A basis with fewer directions ignores the entries beyond.
        size: side of the maps. Larger bases are reduced by taking every R / size-th texel,
            smaller ones enlarged by repeating texels, as the reference's nearest resizing does.
        overlay: colours (3, size, size) and shares (1, size, size) in 0..1 that lie on every
            map, as of :func:`eye_overlay`, or None.
    """

    mean: Tensor
    basis: Tensor
    overlay: Tensor | None
    share: Tensor | None

    def __init__(
        self,
        mean,
        basis,
        rgb: bool = True,
        n_tex: int = N_TEXTURE,
        size: int = UV_SIZE,
        overlay: tuple[Tensor, Tensor] | None = None,
    ):
        super().__init__()
        mean, basis = np.asarray(mean), np.asarray(basis)
        self.n_tex, self.size = n_tex, size
        side = len(mean)
        kept = np.arange(size) * side // size if side > size else np.arange(side)
        order = slice(None) if rgb else slice(None, None, -1)
        mean = mean[kept][:, kept][:, :, order].astype(np.float32)
        basis = basis[kept][:, kept][:, :, order, :n_tex].astype(np.float32)
        self.side = len(kept)
        flat = np.zeros((n_tex, mean.size), np.float32)
        flat[: basis.shape[3]] = np.moveaxis(basis, (3, 2), (0, 1)).reshape(basis.shape[3], -1)
        mean = torch.from_numpy(np.moveaxis(mean, 2, 0).reshape(-1).copy())
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("basis", torch.from_numpy(flat), persistent=False)
        colours, share = overlay if overlay is not None else (None, None)
        self.register_buffer("overlay", colours, persistent=False)
        self.register_buffer("share", share, persistent=False)

    @classmethod
    def from_model(
        cls,
        model,
        n_tex: int = N_TEXTURE,
        paint_eyes: bool | None = None,
    ) -> TextureSpace:
        """The texture of a head model (:class:`regaze.face3d.model.FlameModel`).

        Args:
            model, n_tex: see the class.
            paint_eyes: lay :func:`eye_overlay` on the maps. None does so for models that are not
                FLAME's: their texture has skin alone, and gaze would not be seen.
        """
        if paint_eyes is None:
            paint_eyes = model.meta.get("source") in ("synthetic", "ict")
        overlay = eye_overlay(model) if paint_eyes else None
        return cls(model.MU, model.PC, model.texture_rgb, n_tex, overlay=overlay)

    def forward(self, codes: Tensor) -> Tensor:
        """Albedo (B, 3, size, size) RGB of codes (B, n_tex); about 0..1, not clamped."""
        maps = (self.mean + codes @ self.basis).view(-1, 3, self.side, self.side)
        if self.side != self.size:
            maps = F.interpolate(maps, size=(self.size, self.size), mode="nearest")
        if self.overlay is None or self.share is None:
            return maps
        return maps + self.share * (self.overlay - maps)


def eye_overlay(model, size: int = UV_SIZE) -> tuple[Tensor, Tensor]:
    """Pupil, iris and sclera in the charts of a model's eyeballs.

    Returns:
        Colours (3, size, size) RGB in 0..1 and shares (1, size, size): 1 on the eyeballs' charts.

    Raises:
        ValueError: the model has no chart, or no vertices that turn with an eye joint alone.
    """
    if model.uvcoords is None or model.uvfaces is None:
        raise ValueError("eyes: the head model has no chart (uvcoords, uvfaces)")
    joints = model.J_regressor @ model.v_template.astype(np.float64)
    direction = np.zeros((len(model.v_template), 3))
    ball = np.zeros(len(model.v_template), bool)
    for joint in (3, 4):
        rows = model.weights[:, joint] > 0.999
        direction[rows] = model.v_template[rows] - joints[joint]
        ball |= rows
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-12)
    # The back of the ball, never seen, is left out: charts of it may lie over the front's.
    kept = (ball & (direction[:, 2] > -0.9))[model.f].all(1)
    if not kept.any():
        raise ValueError("eyes: the head model has no vertices that turn with an eye joint alone")
    points = chart_points(torch.as_tensor(model.uvcoords, dtype=torch.float32))
    chart = torch.from_numpy(model.uvfaces[kept])
    # An iris is a few texels wide: texels are means over finer samples.
    fine = FINER * size
    seen = rasterize(to_ndc(points[None]), chart[None], fine, with_dists=False, backend="embree")
    row, column = (seen.pix_to_face[0, ..., 0] >= 0).nonzero(as_tuple=True)
    corners = direction[model.f[kept]][seen.pix_to_face[0, row, column, 0].numpy()]
    axis = (corners * seen.bary[0, row, column, 0].double().numpy()[..., None]).sum(1)
    length = np.maximum(np.linalg.norm(axis, axis=1), 1e-12)
    angle = np.degrees(np.arccos(np.clip(axis[:, 2] / length, -1, 1)))[:, None]
    pupil, iris, sclera = (np.array(EYE_COLOURS[name]) / 255.0 for name in EYE_COLOURS)
    colour = np.where(angle < PUPIL, pupil, np.where(angle < LIMBUS, iris, sclera))
    samples = torch.zeros(4, fine, fine)
    samples[:3, row, column] = torch.from_numpy(colour.T).float()
    samples[3, row, column] = 1.0
    mean = F.avg_pool2d(samples, FINER)
    share = mean[3:]
    colours = mean[:3] / share.clamp_min(1e-6)
    return colours, share
