import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from regaze import rotations as r

ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "XYX", "XZX", "YXY", "YZY", "ZXZ", "ZYZ")


def turns(count=40, seed=0):
    return Rotation.random(count, random_state=seed)


def test_conversions_agree_with_scipy():
    there = turns()
    vector, matrix = torch.tensor(there.as_rotvec()), torch.tensor(there.as_matrix())
    quaternion = torch.tensor(there.as_quat(scalar_first=True))
    quaternion = torch.where(quaternion[:, :1] < 0, -quaternion, quaternion)
    for found, expected in (
        (r.axis_angle_to_matrix(vector), matrix),
        (r.axis_angle_to_quaternion(vector), quaternion),
        (r.quaternion_to_matrix(3 * quaternion), matrix),
        (r.quaternion_to_axis_angle(-quaternion), vector),
        (r.matrix_to_quaternion(matrix), quaternion),
        (r.matrix_to_axis_angle(matrix), vector),
        (r.rotation_6d_to_matrix(r.matrix_to_rotation_6d(matrix)), matrix),
    ):
        assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(r.rodrigues(vector), matrix, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_euler_angles_agree_with_scipy(order):
    matrix = torch.tensor(turns().as_matrix())
    angles = r.matrix_to_euler(matrix, order)
    assert np.allclose(angles, turns().as_euler(order), atol=1e-9)
    assert torch.allclose(r.euler_to_matrix(angles, order), matrix, atol=1e-12)


def test_deca_jaw_angles_are_turns_about_x_y_z_in_that_order():
    angles = torch.tensor(turns().as_euler("XYZ")) * 0.5
    matrix = r.euler_to_matrix(angles, "XYZ")
    assert torch.allclose(r.quaternion_to_matrix(r.euler_to_quaternion(angles)), matrix, atol=1e-12)
    assert torch.allclose(r.axis_angle_to_matrix(r.euler_to_axis_angle(angles)), matrix, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 1e-3, math.pi - 1e-6, math.pi])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_at_the_ends(angle, kind):
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=kind)
    vector = (axis * angle).requires_grad_()
    for forward in (
        r.rodrigues,
        r.axis_angle_to_matrix,
        lambda v: r.matrix_to_axis_angle(r.axis_angle_to_matrix(v)),
        lambda v: r.quaternion_to_axis_angle(r.axis_angle_to_quaternion(v)),
    ):
        out = forward(vector)
        (slope,) = torch.autograd.grad(out.sum(), vector)
        assert out.dtype == kind and torch.isfinite(out).all() and torch.isfinite(slope).all()
    again = r.axis_angle_to_matrix(r.matrix_to_axis_angle(r.axis_angle_to_matrix(vector)))
    atol = 2e-6 if kind == torch.float32 else 1e-12
    assert torch.allclose(again, r.axis_angle_to_matrix(vector), atol=atol)


def test_zero_turn_is_exactly_the_identity():
    assert torch.equal(r.rodrigues(torch.zeros(2, 3)), torch.eye(3).expand(2, 3, 3))


def test_gradients_are_right():
    vector = torch.tensor([[0.3, -0.2, 0.5], [1.5, 0.2, -1.0]], dtype=torch.float64)
    for forward in (
        r.rodrigues,
        r.axis_angle_to_matrix,
        lambda v: r.matrix_to_axis_angle(r.axis_angle_to_matrix(v)),
        lambda v: r.rotation_6d_to_matrix(torch.cat([v, v.flip(-1)], -1)),
    ):
        assert torch.autograd.gradcheck(forward, vector.clone().requires_grad_(), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_round_trips_for_any_turn(entries):
    matrix = r.axis_angle_to_matrix(torch.tensor(entries, dtype=torch.float64))
    assert torch.allclose(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(r.axis_angle_to_matrix(r.matrix_to_axis_angle(matrix)), matrix, atol=1e-7)
    assert torch.allclose(r.quaternion_to_matrix(r.matrix_to_quaternion(matrix)), matrix, atol=1e-9)


def test_leading_shapes_and_wrong_conventions():
    assert r.rodrigues(torch.zeros(2, 4, 3)).shape == (2, 4, 3, 3)
    assert r.matrix_to_quaternion(torch.eye(3).expand(5, 2, 3, 3)).shape == (5, 2, 4)
    for order in ("XXY", "XY", "ABC"):
        with pytest.raises(ValueError, match="convention"):
            r.euler_to_matrix(torch.zeros(3), order)


def test_yaw_is_the_turn_about_y():
    for angle in (-1.2, -0.3, 0.0, 0.7):
        matrix = r.euler_to_matrix(torch.tensor([0.4, angle, 0.0]), "XYZ")
        back = r.yaw_angle(r.euler_to_matrix(torch.tensor([0.0, angle, 0.0]), "XYZ"))
        assert abs(float(back) - angle) < 1e-6 and matrix.shape == (3, 3)
