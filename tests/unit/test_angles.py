"""Angle conventions: signs, round trips, agreement of NumPy and torch."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.angles import (
    angles_from_rotation,
    angles_from_vector,
    angular_error,
    rotation_from_angles,
    rotation_from_vector,
    vector_from_angles,
)

label = st.tuples(st.floats(-1.5, 1.5), st.floats(-3.1, 3.1)).map(np.array)
quick = settings(max_examples=60, deadline=None)


def test_signs_are_those_of_the_normalised_camera():
    up, left = vector_from_angles([0.3, 0.0]), vector_from_angles([0.0, 0.3])
    # The physical direction is -v; image y points down and image x to the right.
    assert -up[1] < 0
    assert -left[0] < 0
    np.testing.assert_allclose(vector_from_angles([0.0, 0.0]), [0, 0, 1])


@quick
@given(label)
def test_vector_and_rotation_round_trips(angles):
    np.testing.assert_allclose(angles_from_vector(vector_from_angles(angles)), angles, atol=1e-9)
    rotation = rotation_from_angles(angles)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(angles_from_rotation(rotation), angles, atol=1e-9)
    # No roll: the head's x axis stays level, which normalisation relies on.
    assert abs(rotation[1, 0]) < 1e-12


@quick
@given(label, label)
def test_error_is_a_symmetric_angle_and_torch_agrees(a, b):
    error = angular_error(a, b)
    assert 0 <= error <= 180
    assert error == pytest.approx(angular_error(b, a), abs=1e-9)
    same = angular_error(torch.tensor(a), torch.tensor(b))
    assert float(same) == pytest.approx(error, abs=1e-9)


def test_error_of_known_directions():
    assert angular_error([0.0, 0.0], [0.0, np.pi / 2]) == pytest.approx(90)
    assert angular_error([0.1, 0.2], [0.1, 0.2]) == 0
    tiny = angular_error(np.array([0.0, 0.0]), np.array([0.0, 1e-7]))
    assert tiny == pytest.approx(np.rad2deg(1e-7), rel=1e-6)


def test_mirroring_changes_the_sign_of_yaw_only():
    mirrored = np.diag([-1, 1, 1]) @ vector_from_angles([0.2, 0.4])
    np.testing.assert_allclose(angles_from_vector(mirrored), [0.2, -0.4])


def test_rodrigues_agrees_with_opencv_and_torch():
    vectors = np.random.default_rng(3).normal(size=(20, 3))
    vectors[:3] *= [[0.0], [1e-9], [1e-4]]
    matrices = rotation_from_vector(vectors)
    for vector, matrix in zip(vectors, matrices, strict=True):
        np.testing.assert_allclose(matrix, cv2.Rodrigues(vector)[0], atol=1e-12)
    torch.testing.assert_close(
        rotation_from_vector(torch.tensor(vectors)), torch.tensor(matrices), atol=1e-12, rtol=0
    )
    assert rotation_from_vector(np.zeros((2, 4, 3), np.float32)).shape == (2, 4, 3, 3)
    zero = torch.zeros(3, requires_grad=True)
    rotation_from_vector(zero)[2, 1].backward()
    assert zero.grad.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="vectors: last axis must have 3 entries"):
        rotation_from_vector(np.zeros((3, 2)))


@pytest.mark.parametrize("bad", [np.zeros(3), np.float64(1.0), np.zeros((4, 1))])
def test_wrong_shape_is_named(bad):
    with pytest.raises(ValueError, match="last axis must have 2"):
        vector_from_angles(bad)


@pytest.mark.parametrize("bad", [np.eye(4), np.zeros((3, 2)), np.zeros(3)])
def test_what_is_no_rotation_is_named(bad):
    with pytest.raises(ValueError, match=r"rotation: expected \(\.\.\., 3, 3\), found \("):
        angles_from_rotation(bad)
