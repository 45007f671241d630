"""DECA and EMOCA: from a face crop to codes, from codes to a head, from a head to pictures.

Feng et al. 2021, Learning an animatable detailed 3D face model from in-the-wild images
(``yfeng95/DECA``); Danecek et al. 2022, EMOCA: emotion driven monocular face capture and
animation (``radekd91/emoca``), which replaces the expression by that of a second encoder.
Neither sees where the eyes look: eye poses come from outside (:mod:`regaze.face3d.gaze`).

Codes are a dictionary of tensors: ``shape`` (B, 100), ``tex`` (B, 50), ``exp`` (B, 50), ``pose``
(B, 6) axis-angles of head and jaw, ``cam`` (B, 3) s, tx, ty, ``light`` (B, 9, 3), ``detail``
(B, 128), and optionally ``eye_pose`` (B, 6).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from regaze.face3d.checkpoints import best_checkpoint, read_deca, read_emoca
from regaze.face3d.crop import to_image_space
from regaze.face3d.detail import DetailDecoder
from regaze.face3d.editions import DECA_SHA256, describe, why_not_published
from regaze.face3d.encoders import CODE, DETAIL, CodeEncoder, split_code
from regaze.face3d.flame import Flame
from regaze.face3d.model import FlameModel, model_hash
from regaze.face3d.render import Renderer, Rendering
from regaze.face3d.texture import TextureSpace
from regaze.provenance import file_sha256
from regaze.weights import load_strictly, read_model

log = logging.getLogger(__name__)

GREY = 0.7
"""Albedo of a head model without a texture, as upstream's."""

Codes = Mapping[str, Tensor]


class Decoded(NamedTuple):
    """A head made of codes.

    Attributes:
        vertices: (B, V, 3) world frame, metres: x the subject's left, y up, z out of the face.
        projected: (B, V, 3) image points: x right, y down, [-1, 1] over the crop, z away.
        landmarks2d: (B, 68, 3) image points, the contour's moving with the yaw.
        landmarks3d: (B, 68, 3) image points of the fixed landmarks.
        albedo: (B, 3, 256, 256) RGB, about 0..1.
    """

    vertices: Tensor
    projected: Tensor
    landmarks2d: Tensor
    landmarks3d: Tensor
    albedo: Tensor


class Deca(nn.Module):
    """The encoder with the head model that its codes belong to.

    The state dict holds the networks alone, under the names of the published checkpoints:
    ``E_flame``, and where present ``E_detail``, ``D_detail``, ``E_expression``.

    Args:
        head: the head model.
        preset: of the encoders, see :data:`regaze.face3d.encoders.PRESETS`.
        expression_encoder: with EMOCA's second encoder.
        rasterizer: backend of the renderer, see :mod:`regaze.face3d.rasterize`.
        detail: with the two detail networks, which only published weights have.
    """

    def __init__(
        self,
        head: FlameModel,
        preset: str = "reference",
        expression_encoder: bool = False,
        rasterizer: str = "auto",
        detail: bool = False,
    ):
        super().__init__()
        self.head, self.preset, self.rasterizer = head, preset, rasterizer
        self.E_flame = CodeEncoder(sum(CODE.values()), preset)
        self.E_detail = CodeEncoder(DETAIL, preset) if detail else None
        self.D_detail = DetailDecoder() if detail else None
        self.E_expression = CodeEncoder(CODE["exp"], preset) if expression_encoder else None
        self.flame = Flame(head, CODE["shape"], CODE["exp"])
        self.texture = None if head.MU is None else TextureSpace.from_model(head, CODE["tex"])
        self._renderers = nn.ModuleDict()
        self.checkpoint_sha256 = "none"
        self.record: dict = {}

    @property
    def size_px(self) -> int:
        """Side of the crops in pixels."""
        return self.E_flame.size_px

    @property
    def device(self) -> torch.device:
        """Where the networks and the head model are."""
        return self.flame.v_template.device

    @property
    def kind(self) -> str:
        """``deca`` or ``emoca``."""
        return "deca" if self.E_expression is None else "emoca"

    def regress(self, crops: Tensor) -> dict[str, Tensor]:
        """Codes without ``detail`` of one batch (B, 3, S, S), with gradients: for training."""
        codes = split_code(self.E_flame(crops))
        if self.E_expression is not None:
            codes["exp"] = self.E_expression(crops)
        return codes

    @torch.no_grad()
    def encode(self, crops: Tensor) -> dict[str, Tensor]:
        """Codes of crops, always in evaluation mode.

        Args:
            crops: (B, 3, S, S) RGB in [0, 1], S = ``size_px``.

        Returns:
            The codes, float32. ``detail`` is zero without a detail network. A row's
            codes do not depend on the rows it comes with, to the last bit: batches are cut into
            pieces of one size.
        """
        piece = 8 if crops.device.type == "cpu" else 64
        training = self.training
        self.eval()
        try:
            parts = [self._piece(crops[i : i + piece], piece) for i in range(0, len(crops), piece)]
        finally:
            self.train(training)
        if not parts:
            empty = split_code(crops.new_zeros(0, sum(CODE.values())))
            return empty | {"detail": crops.new_zeros(0, DETAIL)}
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _piece(self, crops: Tensor, size: int) -> dict[str, Tensor]:
        count = len(crops)
        if count < size:
            crops = torch.cat([crops, crops.new_zeros(size - count, *crops.shape[1:])])
        codes = self.regress(crops)
        if self.E_detail is None:
            codes["detail"] = crops.new_zeros(size, DETAIL)
        else:
            codes["detail"] = self.E_detail(crops)
        return {name: value[:count].float() for name, value in codes.items()}

    def decode(self, codes: Codes, eye_pose: Tensor | None = None) -> Decoded:
        """The heads of codes; differentiable.

        Args:
            codes: see the module.
            eye_pose: (B, 6) axis-angles of the left and the right eye; None takes those of
                ``codes``, and without any the eyes look straight ahead.
        """
        eye_pose = codes.get("eye_pose") if eye_pose is None else eye_pose
        head = self.flame(codes["shape"], codes["exp"], codes["pose"], eye_pose)
        cam = codes["cam"]
        return Decoded(
            vertices=head.vertices,
            projected=to_image_space(head.vertices, cam),
            landmarks2d=to_image_space(head.landmarks2d, cam),
            landmarks3d=to_image_space(head.landmarks3d, cam),
            albedo=self.albedo(codes["tex"]),
        )

    def albedo(self, tex: Tensor) -> Tensor:
        """Texture maps (B, 3, 256, 256) of codes (B, 50); grey if the head has no texture."""
        if self.texture is None:
            return tex.new_full((len(tex), 3, 256, 256), GREY)
        return self.texture(tex)

    def renderer(self, rasterizer: str = "auto") -> Renderer:
        """The renderer of the head's mesh with a backend, made at first use.

        Raises:
            ValueError: the head model has no texture coordinates.
        """
        if self.head.uvcoords is None or self.head.uvfaces is None:
            raise ValueError("head model: expected texture coordinates (uvcoords, uvfaces)")
        name = self.rasterizer if rasterizer == "auto" else rasterizer
        if name not in self._renderers:
            mesh = self.head.f, self.head.uvcoords, self.head.uvfaces
            self._renderers[name] = Renderer(*mesh, self.size_px, backend=name).to(self.device)
        return self._renderers[name]

    def render(
        self,
        codes: Codes,
        eye_pose: Tensor | None = None,
        image_size: int | tuple[int, int] | None = None,
        light: bool = True,
        rasterizer: str = "auto",
        background: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Pictures of the heads of codes, over the crop.

        Args:
            codes, eye_pose: as for :meth:`decode`.
            image_size: side, or (height, width), in pixels; None is the crop's.
            light: False draws the albedo alone, as DECA's demo does.
            rasterizer: a backend; ``auto`` is that of the object.
            background: (B, 3, H, W) behind the head; None is black.

        Returns:
            ``image`` (albedo under the light), ``albedo``, ``normals`` (world axes, zero off the
            head), ``shaded`` (grey form under five lights), each (B, 3, H, W); ``alpha`` and
            ``front`` (B, 1, H, W), 1 on the head and where its surface faces the viewer; ``face``
            (B, 1, H, W), the share 0..1 of the chart's face mask where it faces the viewer.
            Colours are about 0..1, not clamped.
        """
        head = self.decode(codes, eye_pose)
        place, size = (head.vertices, head.projected), image_size or self.size_px
        renderer = self.renderer(rasterizer)
        lit = codes["light"].reshape(-1, 9, 3) if light else None
        drawn: Rendering = renderer(*place, head.albedo, lit, background, size)
        shaded = renderer.shape_image(*place, background, size=size)
        return {
            "image": drawn.images,
            "alpha": drawn.alpha,
            "albedo": drawn.albedo,
            "normals": drawn.normals,
            "shaded": shaded,
            "front": drawn.front,
            "face": drawn.share_of(self.head.uv_face_mask),
        }

    def displacement(self, codes: Codes) -> Tensor | None:
        """Displacement maps (B, 1, 256, 256) in metres along the normal, the fixed one included.

        None without a detail network.
        """
        if self.D_detail is None:
            return None
        found = self.D_detail.displacement(codes["pose"], codes["exp"], codes["detail"])
        if self.head.fixed_displacement is not None:
            found = found + torch.as_tensor(self.head.fixed_displacement).to(found)
        return found


def encoder_identity(deca: Deca) -> dict[str, str]:
    """What codes were computed with: ``encoder`` (kind and preset), SHA-256 of its weights' file
    (``checkpoint_sha256``) and of the head model's arrays (``head_sha256``)."""
    return {
        "encoder": f"{deca.kind}-{deca.preset}",
        "checkpoint_sha256": deca.checkpoint_sha256,
        "head_sha256": model_hash(deca.head),
    }


def load_encoder(folder: str | Path, head: FlameModel, rasterizer: str = "auto") -> Deca:
    """An encoder of a model folder (rule ``train_deca``), in evaluation mode, without gradients.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: another kind of model, another head model than it was trained with, weights
            that do not fit.
    """
    record, weights, path = read_model(folder, "encoder")
    if record.get("head_sha256") != model_hash(head):
        raise ValueError(
            f"{path.with_name('model.json')}: head_sha256: the encoder was trained with the head "
            f"model {record.get('head_sha256')}, this one is {model_hash(head)}"
        )
    config = record["config"]
    deca = Deca(head, config["preset"], config["class"] == "emoca", rasterizer)
    load_strictly(deca, weights, path)
    deca.record = record
    return _ready(deca, path)


def load_published(
    head: FlameModel,
    *,
    deca: str | Path | None = None,
    emoca: str | Path | None = None,
    head_sha256: str | None = None,
    rasterizer: str = "auto",
) -> Deca:
    """Networks of the published layout with their weights, strictly, in evaluation mode.

    Args:
        head: the head model that the weights were trained with: FLAME 2020, unless an EMOCA
            checkpoint holds another one's arrays, or ``head_sha256`` is given.
        deca: ``deca_model.tar``.
        emoca: a run folder or a ``.ckpt`` of EMOCA, which holds all four networks.
        head_sha256: hash (:func:`regaze.face3d.model.model_hash`) of the head model that weights
            of the user's own training belong to.
        rasterizer: see :class:`Deca`.

    Raises:
        ValueError: not exactly one of the two is given.
        ValueError: a file is missing, is no such checkpoint, does not fit, or belongs to
            another head model.
    """
    if (deca is None) == (emoca is None):
        raise ValueError("published weights: expected exactly one of deca and emoca")
    arrays: Mapping[str, Tensor] = {}
    if deca is not None:
        path = Path(deca)
        states = read_deca(path)
    else:
        path = Path(emoca)
        if path.is_dir():
            path = best_checkpoint(path / "detail" / "checkpoints")
        states, arrays = read_emoca(path)
    if fault := _foreign_head(head, arrays, head_sha256, path):
        raise ValueError(f"{path}: {fault}")
    if head.meta.get("texture") == "flame":
        log.warning(
            "%s: texture codes belong to FLAME_albedo_from_BFM.npz, the head model has "
            "FLAME_texture.npz: albedo and shaded pictures have other colours than the face",
            path,
        )
    made = Deca(head, "reference", emoca is not None, rasterizer, detail=True)
    for name, state in states.items():
        load_strictly(getattr(made, name), state, f"{path}: {name}")
    return _ready(made, path)


def _foreign_head(
    head: FlameModel, arrays: Mapping[str, Tensor], head_sha256: str | None, path: Path
) -> str:
    """Why weights of the published layout do not belong to a head model; "" if they do."""
    found = model_hash(head)
    if head_sha256 not in (None, found):
        return f"head_sha256: the weights belong to {head_sha256}, this head model is {found}"
    if arrays:
        own = {"v_template": head.v_template, "shapedirs": _directions(head)}
        same = all(
            arrays[name].shape == value.shape
            and np.allclose(arrays[name].double().cpu().numpy(), value, rtol=0, atol=1e-6)
            for name, value in own.items()
        )
        if same:
            return ""
        return f"expected the head model that the checkpoint holds, found {describe(head.meta)}"
    if head_sha256 is not None and file_sha256(path) != DECA_SHA256:
        return ""
    return why_not_published(head.meta, head.n_shape_total, found)


def _directions(head: FlameModel) -> np.ndarray:
    """The directions (V, 3, n) that codes move, identity before expression."""
    first = head.n_shape_total
    identity = head.shapedirs[:, :, : min(first, CODE["shape"])]
    return np.concatenate([identity, head.shapedirs[:, :, first : first + CODE["exp"]]], 2)


def _ready(deca: Deca, path: Path) -> Deca:
    deca.checkpoint_sha256 = file_sha256(path)
    return deca.eval().requires_grad_(False)
