"""FLAME's layer: codes to vertices, landmarks and joints, batched and differentiable.

Follows the layer of ``yfeng95/DECA`` (decalib/models/FLAME.py), which blends shape, expression
and pose offsets linearly and skins them with five joints (Li et al. 2017). Written from the
description of that behaviour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from regaze.face3d.model import FlameModel
from regaze.rotations import rodrigues, yaw_angle


class FlameOutput(NamedTuple):
    """What the layer makes; metres, axes of :class:`regaze.face3d.model.FlameModel`.

    Attributes:
        vertices: (B, V, 3).
        landmarks2d: (B, 68, 3): 17 contour points for the head's yaw, then 51 static ones.
        landmarks3d: (B, 68, 3): the fixed points.
        joints: (B, 5, 3) posed joints.
        rotations: (B, 5, 3, 3) local rotations of the joints.
        contour_row: (B,) row of the contour table.
        landmarks_mediapipe: (B, L, 3), or None where the model has no such embedding.
    """

    vertices: Tensor
    landmarks2d: Tensor
    landmarks3d: Tensor
    joints: Tensor
    rotations: Tensor
    contour_row: Tensor
    landmarks_mediapipe: Tensor | None


class Flame(nn.Module):
    """A head model as a torch module without parameters.

    All arrays are non-persistent buffers: they move with ``.to()`` and stay out of state dicts,
    because they are rebuilt from the model's file.

    Args:
        model: the arrays.
        n_shape, n_exp: length of the codes. A model with fewer directions (the procedural head of
            the tests) ignores the entries beyond them, so that the layout of codes stays fixed.
    """

    def __init__(self, model: FlameModel, n_shape: int = 100, n_exp: int = 50):
        super().__init__()
        self.n_shape, self.n_exp = n_shape, n_exp
        vertices = len(model.v_template)
        template = model.v_template.astype(np.float64)
        basis = np.zeros((n_shape + n_exp, vertices, 3))
        total = model.n_shape_total
        parts = (
            (0, 0, min(n_shape, total)),
            (n_shape, total, min(n_exp, model.n_expression_total)),
        )
        for start, first, count in parts:
            columns = model.shapedirs[:, :, first : first + count]
            basis[start : start + count] = np.moveaxis(columns, -1, 0)
        regressor = model.J_regressor

        def store(name, value, kind=torch.float32):
            value = torch.as_tensor(np.ascontiguousarray(value)).to(kind)
            self.register_buffer(name, value, persistent=False)

        store("v_template", template)
        store("faces", model.f, torch.int64)
        store("directions", basis.reshape(n_shape + n_exp, -1))
        # one row per feature, so that a batch's offsets are a single product
        store("posedirs", model.posedirs.reshape(-1, 36).T)
        # joints are linear in the codes: no need to regress them from each head's vertices
        store("joint_template", regressor @ template)
        store(
            "joint_directions", np.einsum("jv,kvd->kjd", regressor, basis).reshape(len(basis), -1)
        )
        store("weights", model.weights)
        self.parents = tuple(int(parent) for parent in model.kintree_table[0])
        for name in ("static", "dynamic", "full"):
            index = getattr(model, f"{name}_lmk_faces_idx")
            store(f"{name}_corners", model.f[index], torch.int64)
            store(f"{name}_bary", getattr(model, f"{name}_lmk_bary_coords"))
        self.has_mediapipe = model.mediapipe_lmk_faces_idx is not None
        if self.has_mediapipe:
            store("mediapipe_corners", model.f[model.mediapipe_lmk_faces_idx], torch.int64)
            store("mediapipe_bary", model.mediapipe_lmk_bary_coords)

    def forward(
        self,
        shape: Tensor,
        exp: Tensor,
        pose: Tensor,
        eye_pose: Tensor | None = None,
        neck_pose: Tensor | None = None,
    ) -> FlameOutput:
        """Pose heads.

        Args:
            shape: (B, n_shape) identity codes.
            exp: (B, n_exp) expression codes.
            pose: (B, 6) axis-angles in radians of root and jaw.
            eye_pose: (B, 6) axis-angles of the left and the right eye; zero if None.
            neck_pose: (B, 3) axis-angle of the neck; DECA keeps it at zero.
        """
        batch = len(shape)
        if eye_pose is None:
            eye_pose = pose.new_zeros(batch, 6)
        if neck_pose is None:
            neck_pose = pose.new_zeros(batch, 3)
        codes = torch.cat([shape, exp], 1)
        full = torch.cat([pose[:, :3], neck_pose, pose[:, 3:], eye_pose], 1)
        rotations = rodrigues(full.view(batch, 5, 3))
        rest_joints = self.joint_template + (codes @ self.joint_directions).view(batch, 5, 3)
        eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        feature = (rotations[:, 1:] - eye).reshape(batch, 36)
        offsets = torch.addmm(codes @ self.directions, feature, self.posedirs)
        rest = self.v_template + offsets.view(batch, -1, 3)
        turns, origins = self._chain(rotations, rest_joints)
        shifts = origins - (turns @ rest_joints[..., None]).squeeze(-1)
        # one 3x4 transform per vertex: the weighted sum of the joints' transforms
        joints = torch.cat([turns, shifts[..., None]], -1).view(batch, 5, 12)
        blended = (self.weights @ joints).view(batch, -1, 3, 4)
        vertices = (blended[..., :3] @ rest[..., None]).squeeze(-1) + blended[..., 3]
        row = contour_row(self._neck_rotation(rotations))
        contour = _points(vertices, self.dynamic_corners[row], self.dynamic_bary[row])
        static = _points(vertices, self.static_corners, self.static_bary)
        return FlameOutput(
            vertices=vertices,
            landmarks2d=torch.cat([contour, static], 1),
            landmarks3d=_points(vertices, self.full_corners[0], self.full_bary[0]),
            joints=origins,
            rotations=rotations,
            contour_row=row,
            landmarks_mediapipe=_points(vertices, self.mediapipe_corners, self.mediapipe_bary)
            if self.has_mediapipe
            else None,
        )

    def shaped(self, shape: Tensor, exp: Tensor) -> Tensor:
        """Vertices (B, V, 3) in rest pose for codes as in :meth:`forward`."""
        offsets = torch.cat([shape, exp], 1) @ self.directions
        return self.v_template + offsets.view(len(shape), -1, 3)

    def _chain(self, rotations: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        turns, origins = [rotations[:, 0]], [rest[:, 0]]
        for joint in range(1, 5):
            parent = self.parents[joint]
            bone = (rest[:, joint] - rest[:, parent])[..., None]
            origins.append((turns[parent] @ bone).squeeze(-1) + origins[parent])
            turns.append(turns[parent] @ rotations[:, joint])
        return torch.stack(turns, 1), torch.stack(origins, 1)

    def _neck_rotation(self, rotations: Tensor) -> Tensor:
        chain, joint = rotations[:, 1], self.parents[1]
        while joint >= 0:
            chain, joint = rotations[:, joint] @ chain, self.parents[joint]
        return chain


def contour_row(rotation: Tensor) -> Tensor:
    """Row (B,) of the contour table for head rotations (B, 3, 3).

    Yaw in degrees, at most 39, rounded half to even: rows 0..39 are turns to 0..39 degrees, rows
    40..78 are -1..-39; whatever turns farther takes the last row.
    """
    yaw = yaw_angle(rotation.detach()) * (180.0 / np.pi)
    degrees = yaw.clamp(max=39).round().long()
    row = torch.where(degrees < 0, 39 - degrees, degrees)
    return torch.where(degrees < -39, torch.full_like(row, 78), row)


def _points(vertices: Tensor, corners: Tensor, bary: Tensor) -> Tensor:
    """Points (B, L, 3) on triangles: corners and bary (L, 3), or (B, L, 3)."""
    if corners.ndim == 3:
        batch, count, _ = corners.shape
        rows = corners.reshape(batch, -1, 1).expand(-1, -1, 3)
        picked = torch.gather(vertices, 1, rows).view(batch, count, 3, 3)
        return torch.einsum("blk,blkd->bld", bary, picked)
    return torch.einsum("lk,blkd->bld", bary, vertices[:, corners])
