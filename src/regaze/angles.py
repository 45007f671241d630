"""Pitch and yaw, vectors and rotations: the one home of the project's angle conventions.

A label is ``(pitch, yaw)`` in radians in the normalised camera (x right, y down, z into the
scene). Its vector ``v = (cos p sin y, sin p, cos p cos y)`` points into the scene; the physical
direction of gaze, or of the front of the face, is ``-v``. Pitch is positive looking up, yaw is
positive towards image left, (0, 0) looks straight into the camera. The convention is that of
``swook/faze_preprocess`` and ``zhengyuf/STED-gaze``.

Every function takes NumPy arrays (or anything ``numpy.asarray`` takes) or torch tensors, of any
leading shape, and answers in the same kind. torch is not imported by this module.
"""

from __future__ import annotations

import sys

import numpy as np


def _namespace(values):
    """Return ``(module, values)``: torch for tensors, NumPy for everything else."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.is_tensor(values):
        return torch, values
    return np, np.asarray(values)


def _check_last(values, size: int, name: str) -> None:
    if values.ndim == 0 or values.shape[-1] != size:
        raise ValueError(f"{name}: last axis must have {size} entries, found {tuple(values.shape)}")


def vector_from_angles(angles):
    """Turn labels (..., 2) in radians into unit vectors (..., 3); see the module docstring."""
    xp, angles = _namespace(angles)
    _check_last(angles, 2, "angles")
    pitch, yaw = angles[..., 0], angles[..., 1]
    return xp.stack([xp.cos(pitch) * xp.sin(yaw), xp.sin(pitch), xp.cos(pitch) * xp.cos(yaw)], -1)


def angles_from_vector(vectors):
    """Turn non-zero vectors (..., 3) into labels (..., 2) in radians; length is ignored."""
    xp, vectors = _namespace(vectors)
    _check_last(vectors, 3, "vectors")
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    # atan2 of the two legs keeps full precision near +-90 degrees, where asin loses half of it.
    return xp.stack([xp.arctan2(y, xp.hypot(x, z)), xp.arctan2(x, z)], -1)


def _matrix(xp, rows):
    return xp.stack([xp.stack(row, -1) for row in rows], -2)


def rotation_x(angle):
    """Rotation matrices (..., 3, 3) about x by ``angle`` (...) radians."""
    xp, angle = _namespace(angle)
    c, s, one, zero = xp.cos(angle), xp.sin(angle), xp.ones_like(angle), xp.zeros_like(angle)
    return _matrix(xp, [[one, zero, zero], [zero, c, -s], [zero, s, c]])


def rotation_y(angle):
    """Rotation matrices (..., 3, 3) about y by ``angle`` (...) radians."""
    xp, angle = _namespace(angle)
    c, s, one, zero = xp.cos(angle), xp.sin(angle), xp.ones_like(angle), xp.zeros_like(angle)
    return _matrix(xp, [[c, zero, s], [zero, one, zero], [-s, zero, c]])


def rotation_from_angles(angles):
    """Return G(p, y) = Ry(y) Rx(-p), (..., 3, 3), whose third column is the label's vector."""
    _, angles = _namespace(angles)
    _check_last(angles, 2, "angles")
    return rotation_y(angles[..., 1]) @ rotation_x(-angles[..., 0])


def rotation_from_vector(vectors):
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), radians times the axis.

    Rodrigues' formula, exact down to a zero vector; gradients are finite there too. NumPy's answer
    is float64.
    """
    xp, vectors = _namespace(vectors)
    vectors = vectors.astype(np.float64) if xp is np else vectors
    _check_last(vectors, 3, "vectors")
    angle = xp.linalg.norm(vectors, None, -1)[..., None, None]
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    zero, one = xp.zeros_like(x), xp.ones_like(x)
    cross = _matrix(xp, [[zero, -z, y], [z, zero, -x], [-y, x, zero]])
    unit = _matrix(xp, [[one, zero, zero], [zero, one, zero], [zero, zero, one]])
    # sin(a) / a and (1 - cos a) / a^2
    first, second = xp.sinc(angle / np.pi), 0.5 * xp.sinc(angle / (2.0 * np.pi)) ** 2
    return unit + first * cross + second * (cross @ cross)


def angles_from_rotation(rotation):
    """Return the label (..., 2) of the third column of rotation matrices (..., 3, 3)."""
    _, rotation = _namespace(rotation)
    if rotation.ndim < 2 or tuple(rotation.shape[-2:]) != (3, 3):
        raise ValueError(f"rotation: expected (..., 3, 3), found {tuple(rotation.shape)}")
    return angles_from_vector(rotation[..., :, 2])


def angular_error(first, second):
    """Angle in degrees (...) between the directions of two labels (..., 2) in radians.

    Computed as atan2(|a x b|, a . b), which is exact for equal and for opposite directions where
    the arccosine of a rounded cosine is not.
    """
    xp, _ = _namespace(first)
    a, b = vector_from_angles(first), vector_from_angles(second)
    cross = xp.stack(
        [
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ],
        -1,
    )
    radians = xp.arctan2(xp.sqrt((cross**2).sum(-1)), (a * b).sum(-1))
    return radians * (180.0 / np.pi)
