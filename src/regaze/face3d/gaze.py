"""Gaze through the eye joints: labels and directions to eye poses and back (torch).

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

from regaze.angles import angles_from_vector, rotation_from_angles, vector_from_angles
from regaze.face3d.rotations import matrix_to_axis_angle, rodrigues

_FLIP = (1.0, -1.0, -1.0)


def _flip(like: Tensor) -> Tensor:
    return torch.tensor(_FLIP, dtype=like.dtype, device=like.device)


def _head(head: Tensor | None, batch: int, like: Tensor) -> Tensor:
    if head is None:
        return torch.eye(3, dtype=like.dtype, device=like.device).expand(batch, 3, 3)
    if tuple(head.shape) == (batch, 3):
        return rodrigues(head)
    if tuple(head.shape) == (batch, 3, 3):
        return head
    raise ValueError(
        f"head: expected axis-angles ({batch}, 3) or matrices ({batch}, 3, 3), "
        f"found {tuple(head.shape)}"
    )


def _pairs(values: Tensor, width: int, name: str) -> Tensor:
    """One row for both eyes or one for each, left eye first, as (B, 2, width)."""
    if values.ndim == 2 and values.shape[1] == width:
        return values[:, None].expand(-1, 2, -1)
    if values.ndim == 3 and tuple(values.shape[1:]) == (2, width):
        return values
    raise ValueError(
        f"{name}: expected (B, {width}) or, left eye first, (B, 2, {width}), "
        f"found {tuple(values.shape)}"
    )


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


def eye_pose_from_directions(directions: Tensor, head: Tensor | None = None) -> Tensor:
    """Eye poses (B, 6) that look along directions in the camera frame.

    Args:
        directions: (B, 3) for both eyes, or (B, 2, 3), left eye first; length is ignored.
        head: rotation of the head in the world: root axis-angles ``pose[:, :3]`` (B, 3), or
            matrices (B, 3, 3) such as root times neck; the identity if None.

    Raises:
        ValueError: another shape.
    """
    pairs = _pairs(directions, 3, "directions")
    turn = _head(head, len(pairs), pairs)
    # rows times R are columns times its transpose: from the world into the head
    return eye_rotation((pairs * _flip(pairs)) @ turn).reshape(-1, 6)


def directions_from_eye_pose(eye_pose: Tensor, head: Tensor | None = None) -> Tensor:
    """Unit directions (B, 2, 3) in the camera frame, left eye first; undoes the above."""
    if eye_pose.ndim != 2 or eye_pose.shape[1] != 6:
        raise ValueError(f"eye_pose: expected (B, 6), found {tuple(eye_pose.shape)}")
    turn = _head(head, len(eye_pose), eye_pose)
    axis = rodrigues(eye_pose.view(-1, 2, 3))[..., 2]
    return (axis @ turn.transpose(1, 2)) * _flip(eye_pose)


def eye_pose_from_labels(
    labels: Tensor, head: Tensor | None = None, normalising: Tensor | None = None
) -> Tensor:
    """Eye poses (B, 6) for gaze labels.

    Args:
        labels: (B, 2) for both eyes, or (B, 2, 2), left eye first; radians.
        head: see :func:`eye_pose_from_directions`; in the labels' camera if ``normalising`` is
            None, else in the true camera.
        normalising: (B, 3, 3) rotations from the true camera to the labels' normalised camera, as
            the faces files hold them, for a head posed in the photo's own camera.
    """
    pairs = _pairs(labels, 2, "labels")
    directions = -vector_from_angles(pairs)
    if normalising is not None:
        directions = directions @ _rotations(normalising, len(pairs))
    return eye_pose_from_directions(directions, head)


def labels_from_eye_pose(
    eye_pose: Tensor, head: Tensor | None = None, normalising: Tensor | None = None
) -> Tensor:
    """Gaze labels (B, 2, 2), left eye first, of eye poses; undoes the above."""
    directions = directions_from_eye_pose(eye_pose, head)
    if normalising is not None:
        turn = _rotations(normalising, len(eye_pose))
        directions = directions @ turn.transpose(1, 2)
    return angles_from_vector(-directions)


def eye_pose_from_targets(targets: Tensor, eyes: Tensor, head: Tensor | None = None) -> Tensor:
    """Eye poses (B, 6) with which both eyes meet at a point.

    Args:
        targets: (B, 3) m in the world.
        eyes: (B, 2, 3) m: the eye joints 3 and 4 of the posed head, ``FlameOutput.joints[:, 3:]``.
        head: see :func:`eye_pose_from_directions`.
    """
    if targets.ndim != 2 or tuple(eyes.shape) != (len(targets), 2, 3):
        raise ValueError(
            f"targets, eyes: expected (B, 3) and (B, 2, 3), "
            f"found {tuple(targets.shape)} and {tuple(eyes.shape)}"
        )
    lines = (targets[:, None] - eyes) * _flip(eyes)
    return eye_pose_from_directions(lines, head)


def root_from_camera(rotation: Tensor) -> Tensor:
    """Root axis-angles (B, 3) of head rotations (B, 3, 3) from the face model to the camera.

    The face model of the normalisation has the camera's axes (x right, y down, z into the head).
    """
    flip = _flip(rotation)
    return matrix_to_axis_angle(flip[:, None] * _rotations(rotation, len(rotation)) * flip)


def root_from_labels(labels: Tensor) -> Tensor:
    """Root axis-angles (B, 3) of head labels (B, 2) in the normalised camera; no roll."""
    return root_from_camera(rotation_from_angles(labels))


def _rotations(rotation: Tensor, batch: int) -> Tensor:
    if tuple(rotation.shape) != (batch, 3, 3):
        raise ValueError(f"rotation: expected ({batch}, 3, 3), found {tuple(rotation.shape)}")
    return rotation
