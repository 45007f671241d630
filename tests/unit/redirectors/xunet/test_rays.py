import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.angles import vector_from_angles
from regaze.redirectors.xunet.rays import (
    camera_rays,
    gaze_poses,
    noise_encoding,
    patch_intrinsics,
    posenc,
)

angle = st.floats(-1.2, 1.2)
pair = st.lists(angle, min_size=8, max_size=8).map(lambda v: torch.tensor(v).reshape(4, 1, 2))
few = settings(max_examples=25, deadline=None)


def rays(labels, mode="gaze_head", size=8):
    R, t, K = gaze_poses(*labels, size, mode)
    return R, t, K, *camera_rays(R, t, K, size, size)


@few
@given(pair, st.sampled_from(["gaze_head", "gaze_orbit", "relative"]))
def test_poses_are_rotations_on_the_unit_sphere(labels, mode):
    R, t, _, pos, direction = rays(labels, mode)
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand_as(R), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(t.norm(dim=-1), torch.ones(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(1, 2, 8, 8), atol=1e-5, rtol=0)
    assert torch.equal(pos[:, :, 0, 0], t)


@few
@given(pair)
def test_equal_labels_give_equal_frames(labels):
    source_gaze, _, source_head, _ = labels
    same = (source_gaze, source_gaze, source_head, source_head)
    for value in rays(same)[3:]:
        assert torch.equal(value[:, 0], value[:, 1])
    orbit = gaze_poses(source_gaze, source_gaze, source_gaze, source_gaze, 8)
    for a, b in zip(orbit, gaze_poses(*same, 8, "gaze_orbit"), strict=True):
        assert torch.equal(a, b)


@few
@given(pair, pair)
def test_gaze_moves_directions_and_head_moves_positions(first, second):
    pos, direction = rays(first)[3:]
    gaze_only = (second[0], second[1], first[2], first[3])
    head_only = (first[0], first[1], second[2], second[3])
    assert torch.equal(rays(gaze_only)[3], pos)
    assert torch.equal(rays(head_only)[4], direction)


@few
@given(pair)
def test_mirrored_labels_mirror_the_rays(labels):
    mirror = torch.tensor([1.0, -1.0])
    pos, direction = rays(labels)[3:]
    mirrored_pos, mirrored_dir = rays(labels * mirror)[3:]
    flip = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored_pos, pos * flip, atol=1e-6, rtol=0)
    torch.testing.assert_close(mirrored_dir, direction.flip(-2) * flip, atol=1e-6, rtol=0)


def test_camera_centre_is_the_head_seen_from_its_own_frame():
    labels = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[0.2, 0.3]], [[-0.1, 0.4]]])
    t = gaze_poses(*labels, 64)[1]
    p, y = labels[3, 0]
    expected = torch.stack([y.sin(), y.cos() * p.sin(), -y.cos() * p.cos()])
    torch.testing.assert_close(t[0, 1], expected)


def test_central_ray_shows_where_the_camera_is():
    # In the eye's frame the axis of the camera is the transposed rotation's third column.
    label = torch.tensor([[0.2, -0.3]])
    R, t, K = gaze_poses(label, label, label, label, 64)
    assert torch.allclose((R[0, 1].mT @ torch.tensor([0.0, 0, 1])), vector_from_angles(label)[0])


def test_intrinsics_scale_with_the_patch():
    K = patch_intrinsics(64)
    assert K.tolist() == [[250, 0, 32], [0, 250, 32], [0, 0, 1]]
    assert patch_intrinsics((32, 128))[0].tolist() == [500, 0, 64]


def test_modes_are_checked():
    with pytest.raises(ValueError, match="pose.mode: expected one of gaze_head"):
        gaze_poses(*torch.zeros(4, 1, 2), 8, "sideways")


def test_encoding_zeroes_inactive_octaves_in_both_slots():
    x = torch.rand(5, 3)
    full, coarse = posenc(x, 6), posenc(x, 6, 2)
    zero = (coarse == 0).all(0)
    expected = [False] * 3 + ([False] * 6 + [True] * 12) * 2
    assert zero.tolist() == expected
    assert torch.equal(full[:, ~zero], coarse[:, ~zero])


def test_squashed_noise_levels():
    level = torch.tensor([-20.0, 0.0, 20.0])
    encoded = noise_encoding(level, 8, squashed=True)
    squashed = 2 / math.pi * math.atan(math.exp(-10))
    # The first sine has frequency 1: 1000 times a value in [0, 1].
    expected = torch.sin(1000 * torch.tensor([1 - squashed, 0.5, squashed]))
    torch.testing.assert_close(encoded[:, 0], expected, atol=1e-3, rtol=0)
