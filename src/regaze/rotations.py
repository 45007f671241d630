"""Rotations: axis-angles, matrices, quaternions, Euler angles and 6-D rows (torch).

Axis-angles are radians times a unit axis, quaternions have the real part first, matrices act on
columns. Every function takes any leading shape, keeps dtype and device and has finite gradients
everywhere, at zero rotation too. Conventions are those of ``yfeng95/DECA`` (functions that say
so) and of ``facebookresearch/pytorch3d`` (the rest). 6-D rows: Zhou et al. 2019, On the
continuity of rotation representations in neural networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regaze.angles import rotation_x, rotation_y

_TINY = 1e-8


def _matrix(rows) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return _matrix([[o, -z, y], [z, o, -x], [-y, x, o]])


def rodrigues(axis_angle: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of axis-angles (..., 3) as FLAME's public layer makes them.

    1e-8 is added to every component before the norm is taken, and the axis is the raw vector over
    that norm; last digits of heads depend on it. For turns without that detail there is the exact
    :func:`regaze.angles.rotation_from_vector`.
    """
    angle = torch.linalg.vector_norm(axis_angle + _TINY, dim=-1, keepdim=True)
    k = _skew(axis_angle / angle)
    sine, cosine = angle.sin()[..., None], angle.cos()[..., None]
    eye = torch.eye(3, dtype=k.dtype, device=k.device)
    return eye + sine * k + (1 - cosine) * (k @ k)


def _half_sine_ratio(square: Tensor) -> tuple[Tensor, Tensor]:
    """sin(angle/2) / angle and cos(angle/2) for squared angles, smooth at zero."""
    small = square < 1e-8
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    # Taylor terms where the quotient would lose its gradient
    ratio = torch.where(small, 0.5 - square / 48, (angle / 2).sin() / angle)
    cosine = torch.where(small, 1 - square / 8, (angle / 2).cos())
    return ratio, cosine


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """Unit quaternions (..., 4), real part first, of axis-angles (..., 3)."""
    ratio, real = _half_sine_ratio((axis_angle**2).sum(-1, keepdim=True))
    return torch.cat([real, axis_angle * ratio], -1)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of non-zero quaternions (..., 4); they are normalised first."""
    w, x, y, z = quaternion.unbind(-1)
    s = 2.0 / (quaternion**2).sum(-1)
    return _matrix(
        [
            [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
            [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
            [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
        ]
    )


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of axis-angles (..., 3), exact to rounding; see :func:`rodrigues`."""
    return quaternion_to_matrix(axis_angle_to_quaternion(axis_angle))


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Axis-angles (..., 3) of at most pi of unit quaternions (..., 4)."""
    real, vector = quaternion[..., :1], quaternion[..., 1:]
    square = (vector**2).sum(-1, keepdim=True)
    small = square < 1e-16
    sine = torch.where(small, torch.ones_like(square), square).sqrt()
    flip = real < 0
    angle = 2 * torch.atan2(torch.where(flip, -sine, sine), torch.where(flip, -real, real))
    limit = torch.where(flip, -2.0, 2.0).to(quaternion.dtype)
    return vector * torch.where(small, limit, angle / sine)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4) with real part >= 0 of rotation matrices (..., 3, 3)."""
    m = matrix
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # four times the square of each component; the largest one is a safe divisor
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    )
    a, b = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0]
    c, d = m[..., 1, 0] - m[..., 0, 1], m[..., 1, 0] + m[..., 0, 1]
    e, f = m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    # row i is the quaternion times four times its component i
    table = _matrix(
        [
            [squares[..., 0], a, b, c],
            [a, squares[..., 1], d, e],
            [b, d, squares[..., 2], f],
            [c, e, f, squares[..., 3]],
        ]
    )
    best = squares.argmax(-1, keepdim=True)
    row = torch.gather(table, -2, best[..., None].expand(*best.shape, 4)).squeeze(-2)
    out = row / torch.linalg.vector_norm(row, dim=-1, keepdim=True)
    return torch.where(out[..., :1] < 0, -out, out)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angles (..., 3) of at most pi of rotation matrices (..., 3, 3)."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def euler_to_quaternion(euler: Tensor) -> Tensor:
    """Quaternions (..., 4) of DECA's jaw angles (..., 3): x, y, z in radians, Rx Ry Rz."""
    cx, cy, cz = (euler / 2).cos().unbind(-1)
    sx, sy, sz = (euler / 2).sin().unbind(-1)
    return torch.stack(
        [
            cx * cy * cz - sx * sy * sz,
            cx * sy * sz + cy * cz * sx,
            cx * cz * sy - sx * cy * sz,
            cx * cy * sz + sx * cz * sy,
        ],
        -1,
    )


def euler_to_axis_angle(euler: Tensor) -> Tensor:
    """Axis-angles (..., 3) of DECA's jaw angles (..., 3) in radians."""
    return quaternion_to_axis_angle(euler_to_quaternion(euler))


def yaw_angle(matrix: Tensor) -> Tensor:
    """Turn (...) in radians about y of matrices (..., 3, 3), in [-pi/2, pi/2], as DECA reads it."""
    level = torch.sqrt(matrix[..., 0, 0] ** 2 + matrix[..., 1, 0] ** 2)
    return torch.atan2(-matrix[..., 2, 0], level)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """The first two rows (..., 6) of matrices (..., 3, 3)."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def rotation_6d_to_matrix(rows: Tensor) -> Tensor:
    """Matrices (..., 3, 3) whose rows are the Gram-Schmidt frame of two rows (..., 6)."""
    normalize = torch.nn.functional.normalize
    first = normalize(rows[..., :3], dim=-1)
    second = rows[..., 3:]
    second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -2)


def _axes(convention: str) -> list[int]:
    valid = len(convention) == 3 and set(convention) <= set("XYZ")
    if not valid or convention[1] in (convention[0], convention[2]):
        raise ValueError(
            f"convention: expected three axes such as XYZ, neighbours different, "
            f"found {convention!r}"
        )
    return ["XYZ".index(letter) for letter in convention]


def _rotation_z(angle: Tensor) -> Tensor:
    c, s, one, zero = angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    return _matrix([[c, -s, zero], [s, c, zero], [zero, zero, one]])


def euler_to_matrix(euler: Tensor, convention: str) -> Tensor:
    """Matrices (..., 3, 3): the product, in the convention's order, of turns about its axes.

    Args:
        euler: (..., 3) radians, one per letter of the convention.
        convention: such as ``XYZ`` (R = Rx Ry Rz) or ``ZYZ``.
    """
    turns = [
        (rotation_x, rotation_y, _rotation_z)[axis](angle)
        for axis, angle in zip(_axes(convention), euler.unbind(-1), strict=True)
    ]
    return turns[0] @ turns[1] @ turns[2]


def matrix_to_euler(matrix: Tensor, convention: str) -> Tensor:
    """Angles (..., 3) in radians that :func:`euler_to_matrix` turns into ``matrix``.

    The middle angle is in [-pi/2, pi/2], or [0, pi] where the first and last axes are the same.
    Where it reaches an end of its range only the sum or difference of the others is defined.
    """
    i, j, k = _axes(convention)
    m = matrix
    if i == k:
        third = 3 - i - j
        sign = 1.0 if (j - i) % 3 == 1 else -1.0
        middle = torch.acos(m[..., i, i].clamp(-1, 1))
        first = torch.atan2(m[..., j, i], -sign * m[..., third, i])
        last = torch.atan2(m[..., i, j], sign * m[..., i, third])
        return torch.stack([first, middle, last], -1)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    middle = torch.asin((sign * m[..., i, k]).clamp(-1, 1))
    first = torch.atan2(-sign * m[..., j, k], m[..., k, k])
    last = torch.atan2(-sign * m[..., i, j], m[..., i, i])
    return torch.stack([first, middle, last], -1)


def camera_flip(like: Tensor) -> Tensor:
    """Signs (3,) that turn camera axes (y down, z away) into the head model's, or back."""
    return torch.tensor((1.0, -1.0, -1.0), dtype=like.dtype, device=like.device)


def root_from_camera(rotation: Tensor) -> Tensor:
    """Root axis-angles (B, 3) of head rotations (B, 3, 3) from the face model to the camera.

    The face model of the normalisation has the camera's axes (x right, y down, z into the head).
    """
    flip = camera_flip(rotation)
    return matrix_to_axis_angle(flip[:, None] * rotation * flip)
