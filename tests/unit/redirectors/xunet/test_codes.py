"""Code rows and the target frame's code; signs against the synthetic heads' convention."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.angles import angular_error, vector_from_angles
from regaze.codes import CODES, TARGET_CODES, code_columns, code_dim, code_parts
from regaze.codes.condition import code_rows, code_statistics, target_code, turned_root
from regaze.face3d.gaze import root_from_labels
from regaze.rotations import axis_angle_to_matrix, matrix_to_axis_angle

LABEL = st.tuples(st.floats(-1.2, 1.2), st.floats(-1.4, 1.4))


def rows(count=4, seed=0, parts=("shape", "expression", "pose")):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(count, code_dim(parts), generator=generator)


def heads(count=4, seed=2):
    return 0.4 * torch.randn(2, count, 2, generator=torch.Generator().manual_seed(seed))


def facing(root):
    """Where heads with these roots point, in the camera frame (x right, y down, z forward)."""
    return axis_angle_to_matrix(root)[..., 2] * torch.tensor([1.0, -1.0, -1.0])


def test_rows_keep_the_order_of_the_latents_whatever_the_order_asked_for():
    latents = {
        name: torch.arange(width).expand(2, width) + 1000.0 * index
        for index, (name, width) in enumerate(CODES.items())
    }
    found = code_rows(latents, ("pose", "exp", "shape"))
    assert found.shape == (2, 156) and found.dtype == torch.float32
    expected = torch.cat([latents[name] for name in ("shape", "expression", "pose")], 1)
    assert torch.equal(found, expected)
    assert code_parts(("pose", "exp", "shape")) == ("shape", "expression", "pose")
    assert code_columns()["pose"] == slice(150, 156)
    assert code_dim(("shape", "tex", "exp", "pose", "cam", "light")) == 236


def test_bad_parts_are_refused():
    for parts in ((), ("shape", "shape"), ("hair",), ("exp", "expression")):
        with pytest.raises(ValueError, match="code parts"):
            code_parts(parts)


def test_statistics_standardise_and_spare_columns_that_do_not_vary():
    values = rows(200)
    values[:, 7], values[:, 8] = 0.1, 0.0
    mean, std = code_statistics(values)
    made = (values - mean) / std
    varying = torch.ones(156, dtype=torch.bool)
    varying[7:9] = False
    torch.testing.assert_close(made.mean(0), torch.zeros(156), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.std(0, correction=0)[varying], torch.ones(154))
    assert std[7] == 1 and std[8] == 1


def test_source_codes_follow_the_labels_in_the_root_alone():
    """With roots as the synthetic heads have them, the result is the target label's root."""
    source, (before, after) = rows(), heads()
    source[:, 150:153] = root_from_labels(before)
    untouched = source.clone()
    made = target_code(source, None, before, after)
    torch.testing.assert_close(made[:, 150:153], root_from_labels(after), atol=1e-6, rtol=1e-5)
    others = [*range(150), *range(153, 156)]
    assert torch.equal(made[:, others], source[:, others])
    assert torch.equal(source, untouched)


@pytest.mark.parametrize(
    ("label", "axis", "sign"),
    [
        ((0.3, 0.0), 0, -1.0),  # looking up turns about -x (a positive turn about x nods)
        ((-0.3, 0.0), 0, 1.0),
        ((0.0, 0.3), 1, -1.0),  # yaw > 0 looks to image left, away from +x
        ((0.0, -0.3), 1, 1.0),
    ],
)
def test_signs_of_single_turns(label, axis, sign):
    found = turned_root(torch.zeros(1, 3), torch.zeros(1, 2), torch.tensor([label]))[0]
    expected = torch.zeros(3)
    expected[axis] = sign * 0.3
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    # The face then points against the label's vector, which points into the scene.
    torch.testing.assert_close(
        facing(found), -vector_from_angles(torch.tensor(label)), atol=1e-6, rtol=0
    )


@settings(max_examples=30, deadline=None)
@given(LABEL, LABEL, st.floats(-0.5, 0.5))
def test_roll_and_the_encoders_offset_are_kept(source, target, roll):
    before, after = torch.tensor([source]), torch.tensor([target])
    # A root of the encoder: the label's, after a roll about the head's own axis.
    own = axis_angle_to_matrix(torch.tensor([0.0, 0.0, roll]))
    root = matrix_to_axis_angle(axis_angle_to_matrix(root_from_labels(before)) @ own)
    made = turned_root(root, before, after)
    expected = axis_angle_to_matrix(root_from_labels(after)) @ own
    torch.testing.assert_close(axis_angle_to_matrix(made), expected, atol=2e-5, rtol=0)
    assert made.norm() <= math.pi + 1e-5
    found = facing(made)
    label = torch.stack(
        [torch.asin(-found[:, 1].clamp(-1, 1)), torch.atan2(-found[:, 0], -found[:, 2])], 1
    )
    assert angular_error(label, after).max() < 0.1
    back = turned_root(made, after, before)
    torch.testing.assert_close(
        axis_angle_to_matrix(back), axis_angle_to_matrix(root), atol=2e-5, rtol=0
    )


def test_equal_labels_keep_the_root():
    root, (label, _) = rows()[:, :3], heads()
    torch.testing.assert_close(turned_root(root, label, label), root, atol=1e-6, rtol=0)


def test_kinds_that_see_the_target():
    source, target, (before, after) = rows(), rows(seed=5), heads()
    assert torch.equal(target_code(source, target, before, after, "target"), target)
    made = target_code(source, target, before, after, "target_pose_only")
    assert torch.equal(made[:, 150:153], target[:, 150:153])
    others = [*range(150), *range(153, 156)]
    assert torch.equal(made[:, others], source[:, others])
    # What the target's photo shows must not reach a code that is made from the source's.
    without = target_code(source, None, before, after, "source")
    assert torch.equal(target_code(source, target, before, after, "source"), without)
    assert set(TARGET_CODES) == {"source", "target", "target_pose_only"}


def test_rows_without_the_pose():
    source, labels = rows(parts=("shape",)), heads()
    made = target_code(source, None, *labels, parts=("shape",))
    assert torch.equal(made, source) and made is not source
