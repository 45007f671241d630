"""Gaze through the eye joints: labels to eye poses (torch).

A camera frame is x right, y down, z into the scene; the head model's world is +x the subject's
left, +y up, +z out of the face, which is the camera's with y and z turned round. Labels are
(pitch, yaw) of :mod:`regaze.angles` in radians: the direction of gaze is minus the label's vector.
Eye poses are (B, 6): axis-angles of the left and of the right eye, relative to the head. A
positive turn about x looks down, a positive turn about y to the subject's left.

Eyes turn without torsion, about an axis in the plane of the face. DECA and EMOCA leave eye poses
at zero; setting them is how this project gives their meshes a gaze.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regaze.angles import rotation_from_angles, vector_from_angles
from regaze.rotations import camera_flip, rodrigues, root_from_camera


def eye_rotation(direction: Tensor) -> Tensor:
    """Axis-angles (..., 3) that turn +z to head-frame directions (..., 3) without torsion.

    A direction straight backwards has no such axis; it gives zero.
    """
    d = torch.nn.functional.normalize(direction, dim=-1)
    x, y, z = d.unbind(-1)
    axis = torch.stack([-y, x, torch.zeros_like(x)], -1)
    square = (axis**2).sum(-1, keepdim=True)
    small = square < 1e-14
    sine = torch.where(small, torch.ones_like(square), square).sqrt()
    factor = torch.atan2(sine, z[..., None]) / sine
    return axis * torch.where(small, torch.ones_like(factor), factor)


def eye_pose_from_labels(labels: Tensor, head: Tensor | None = None) -> Tensor:
    """Eye poses (B, 6) for gaze labels.

    Args:
        labels: (B, 2) for both eyes, or (B, 2, 2), left eye first; radians.
        head: rotation of the head in the labels' camera: root axis-angles ``pose[:, :3]`` (B, 3),
            or matrices (B, 3, 3) such as root times neck; the identity if None.
    """
    pairs = labels if labels.ndim == 3 else labels[:, None].expand(-1, 2, -1)
    directions = -vector_from_angles(pairs) * camera_flip(pairs)
    if head is not None:
        # rows times R are columns times its transpose: from the world into the head
        directions = directions @ (rodrigues(head) if head.ndim == 2 else head)
    return eye_rotation(directions).reshape(-1, 6)


def root_from_labels(labels: Tensor) -> Tensor:
    """Root axis-angles (B, 3) of head labels (B, 2) in the normalised camera; no roll."""
    return root_from_camera(rotation_from_angles(labels))
