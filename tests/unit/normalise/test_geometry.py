"""Properties of the normalisation: rotation, centre, labels, symmetry, rejections."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.angles import vector_from_angles
from regaze.normalise.geometry import VARIANTS, Variant, normalise, rotation_from_vector


def number(low, high):
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


@st.composite
def scenes(draw):
    camera = [draw(number(300, 3000)), draw(number(300, 3000)), 320.0, draw(number(100, 500))]
    turn = [draw(number(-0.9, 0.9)) for _ in range(3)]
    place = [draw(number(-200, 200)), draw(number(-200, 200)), draw(number(250, 900))]
    target = [draw(number(-300, 300)), draw(number(-300, 300)), draw(number(-30, 30))]
    name = draw(st.sampled_from(sorted(VARIANTS)))
    variant = Variant.named(name, (256, 64) if name == "faze" else draw(st.sampled_from([64, 128])))
    return np.array(camera), np.array(turn + place), np.array(target), variant


few = settings(deadline=None, max_examples=40)


@few
@given(scenes())
def test_rotation_centre_roll_and_label(scene):
    camera, pose, target, variant = scene
    result = normalise(camera, pose, target, variant)
    assert result.problem[0] == ""
    rotation, origin = result.rotation[0], result.origin[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) > 0
    # The gaze origin lies on the virtual camera's axis, and its pixel in the patch's middle.
    np.testing.assert_allclose(rotation @ origin, [0, 0, np.linalg.norm(origin)], atol=1e-9)
    pixel = [
        camera[0] * origin[0] / origin[2] + camera[2],
        camera[1] * origin[1] / origin[2] + camera[3],
        1.0,
    ]
    mapped = result.homography[0] @ pixel
    middle = np.array(variant.size) / 2
    np.testing.assert_allclose(mapped[:2] / mapped[2], middle, atol=1e-6)
    # No roll: the head's x axis is horizontal in the virtual camera.
    head = rotation_from_vector(pose[:3])
    assert abs((rotation @ head)[1, 0]) < 1e-12
    # The label leads back to the target: the physical gaze is minus the label's vector.
    gaze = -rotation.T @ vector_from_angles(result.gaze[0])
    reach = np.linalg.norm(target - origin)
    np.testing.assert_allclose(origin + reach * gaze, target, atol=1e-6)


@few
@given(scenes())
def test_mirrored_scene_has_mirrored_labels(scene):
    camera, pose, target, variant = scene
    mirrored_camera = camera * [1, 1, 0, 1]
    camera = mirrored_camera.copy()
    mirror = np.diag([-1.0, 1.0, 1.0])
    # The face model itself is not quite symmetric, so let the origin be the exact centre row.
    variant = Variant(variant.name, variant.size, variant.focal, variant.distance, "face_centre")
    result = normalise(camera, pose, target, variant)
    # A reflection reverses the rotation's sense about the axes in the mirror plane.
    flipped = normalise(
        camera,
        np.concatenate([pose[:3] * [1, -1, -1], mirror @ pose[3:]]),
        mirror @ target,
        variant,
    )
    sign = [1.0, -1.0]
    np.testing.assert_allclose(flipped.gaze, result.gaze * sign, atol=1e-9)
    np.testing.assert_allclose(flipped.head, result.head * sign, atol=1e-9)
    np.testing.assert_allclose(flipped.rotation, mirror @ result.rotation @ mirror, atol=1e-9)


def test_signs_of_the_labels():
    camera = [900.0, 900.0, 320.0, 240.0]
    frontal = [0.0, 0.0, 0.0, 0.0, -30.0, 600.0]

    def gaze(x, y):
        return normalise(camera, frontal, [x, y, 0.0], VARIANTS["sted"]).gaze[0]

    np.testing.assert_allclose(gaze(0, 0), [0, 0], atol=1e-12)
    assert gaze(0, -100)[0] > 0.1, "looking up is positive pitch"
    assert gaze(-100, 0)[1] > 0.1, "looking to image left is positive yaw"
    up = normalise(camera, [0.3, 0, 0, 0, -30, 600], [0, 0, 0], VARIANTS["sted"]).head[0]
    turned = rotation_from_vector(np.array([0.3, 0, 0]))[:, 2]
    assert np.sign(up[0]) == np.sign(turned[1])


@pytest.mark.filterwarnings("error")
def test_bad_rows_are_marked_and_leave_the_others_alone():
    camera = np.tile([900.0, 900.0, 320.0, 240.0], (8, 1))
    pose = np.tile([0.1, 0.2, 0.0, 0.0, 0.0, 600.0], (8, 1))
    target = np.zeros((8, 3))
    target[1, 0] = np.nan
    camera[2, 0] = 0.0
    pose[3, 5] = -600.0
    pose[4] = [0.0, np.pi / 2, 0.0, 0.0, -30.0, 600.0]  # the head's x axis is the line of sight
    pose[5] = [0.0, 0.0, 0.0, 0.0, -30.0, 600.0]
    target[5] = [0.0, 0.0, 600.0]
    pose[6, 0] = np.inf
    target[7] = 1e300
    result = normalise(camera, pose, target, VARIANTS["sted"])
    assert list(result.problem) == [
        "",
        "non_finite_label",
        "bad_camera",
        "behind_camera",
        "degenerate_pose",
        "degenerate_gaze",
        "non_finite_label",
        "non_finite_label",
    ]
    assert np.isnan(result.labels[1:]).all()
    alone = normalise(camera[:1], pose[:1], target[:1], VARIANTS["sted"])
    np.testing.assert_array_equal(alone.labels[0], result.labels[0])
    np.testing.assert_array_equal(alone.homography[0], result.homography[0])


def test_patch_size_keeps_the_field_of_view():
    small, large = Variant.named("sted", 64), Variant.named("sted", 512)
    assert (small.focal, large.focal, large.size) == (250.0, 2000.0, (512, 512))
    assert Variant.named("faze", (128, 32)).focal == 650.0
    custom = Variant.named("custom", (96, 64), 400, 500)
    assert (custom.size, custom.focal, custom.distance, custom.origin) == (
        (96, 64),
        400,
        500,
        "face_centre",
    )
    assert Variant.named("sted", 64, distance=300.0).distance == 300.0
    assert Variant.named("sted", (64, 32), 250.0).size == (64, 32)
    for name, size in [("stedd", None), ("custom", 64), ("sted", 0), ("faze", (64, 64))]:
        with pytest.raises(ValueError, match="expected"):
            Variant.named(name, size)
