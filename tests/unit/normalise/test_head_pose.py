"""Head poses from landmarks: exact ones come back, noisy ones nearly, impossible ones never."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from regaze.normalise.camera import pad_distortion, project
from regaze.normalise.face_model import FACE_MODELS
from regaze.normalise.geometry import rotation_from_vector
from regaze.normalise.head_pose import HeadPoseError, estimate_head_pose

CAMERA = np.array([900.0, 910.0, 620.0, 355.0])
LENS = np.array([-0.12, 0.05, 0.001, -0.002, 0.01])


def scene(seed, model, lens=LENS):
    random = np.random.default_rng([seed, len(model)])
    pose = random.normal(size=6) * [0.25, 0.4, 0.15, 60, 40, 80] + [0, 0, 0, 0, 0, 600]
    points = FACE_MODELS[model].fitted_points @ rotation_from_vector(pose[:3]).T + pose[3:]
    landmarks = np.full((68, 2), 1e3)
    numbers = np.array(FACE_MODELS[model].landmark_numbers) - 1
    landmarks[numbers] = project(points[None], CAMERA[None], pad_distortion(lens)[None])[0]
    return pose, landmarks, numbers


@pytest.mark.parametrize("model", sorted(FACE_MODELS))
@pytest.mark.parametrize("lens", [LENS, LENS[:4], None])
def test_exact_landmarks_give_the_pose_back(model, lens):
    for seed in range(8):
        pose, landmarks, numbers = scene(seed, model, np.zeros(4) if lens is None else lens)
        found, error = estimate_head_pose(landmarks, CAMERA, lens, model)
        np.testing.assert_allclose(found[:3], pose[:3], atol=2e-5)
        np.testing.assert_allclose(found[3:], pose[3:], atol=0.02)
        assert error < 1e-2
        again, _ = estimate_head_pose(landmarks[numbers], CAMERA, lens, FACE_MODELS[model])
        np.testing.assert_array_equal(again, found)


def test_noise_of_a_pixel_costs_a_degree_and_the_error_tells():
    for seed in range(8):
        pose, landmarks, numbers = scene(seed, "sfm14")
        noise = np.random.default_rng(seed).normal(size=(68, 2))
        found, error = estimate_head_pose(landmarks + noise, CAMERA, LENS)
        turn = rotation_from_vector(found[:3]) @ rotation_from_vector(pose[:3]).T
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 4
        assert 0.5 < error < 2.0
        # Least squares on all points: the truth cannot explain the landmarks better.
        assert error <= np.sqrt((noise[numbers] ** 2).sum(axis=1).mean()) + 1e-2


def test_results_do_not_depend_on_earlier_calls():
    _, landmarks, _ = scene(3, "sfm14")
    landmarks = landmarks + np.random.default_rng(0).normal(scale=6, size=(68, 2))
    first = estimate_head_pose(landmarks, CAMERA, LENS)
    cv2.setRNGSeed(99)
    estimate_head_pose(scene(4, "sfm14")[1], CAMERA, LENS)
    again = estimate_head_pose(landmarks, CAMERA, LENS)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]


def test_a_large_photo_whose_landmarks_are_off_by_more_than_ransac_allows():
    pose, landmarks, _ = scene(5, "sfm14")
    noise = np.random.default_rng(5).normal(scale=3, size=(68, 2))
    scale = 9.0
    found, error = estimate_head_pose((landmarks + noise) * scale, CAMERA * scale, LENS)
    small, _ = estimate_head_pose(landmarks + noise, CAMERA, LENS)
    np.testing.assert_allclose(found, small, rtol=0.02, atol=0.02)
    assert error > 8


def test_what_cannot_be_is_refused():
    _, landmarks, numbers = scene(1, "sfm14")
    for change in (np.nan, np.inf):
        broken = landmarks.copy()
        broken[numbers[2], 0] = change
        with pytest.raises(HeadPoseError, match="landmarks: expected finite"):
            estimate_head_pose(broken, CAMERA, LENS)
    unused = landmarks.copy()
    unused[0] = np.nan
    estimate_head_pose(unused, CAMERA, LENS)
    with pytest.raises(HeadPoseError, match="camera: expected positive"):
        estimate_head_pose(landmarks, CAMERA * [0, 1, 1, 1], LENS)
    with pytest.raises(HeadPoseError, match="camera: expected finite"):
        estimate_head_pose(landmarks, CAMERA * np.nan, LENS)
    for model in sorted(FACE_MODELS):
        with pytest.raises(HeadPoseError, match="expected a face"):
            estimate_head_pose(np.full((68, 2), 300.0), CAMERA, None, model)
    for wrong in (landmarks[:50], np.zeros((68, 3))):
        with pytest.raises(ValueError, match="landmarks: expected"):
            estimate_head_pose(wrong, CAMERA, LENS)
    with pytest.raises(ValueError, match="face_model"):
        estimate_head_pose(landmarks, CAMERA, LENS, "bfm")
    with pytest.raises(ValueError, match="distortion"):
        estimate_head_pose(landmarks, CAMERA, LENS[:3])
    assert HeadPoseError("x").reason == "pose_failed"


@pytest.mark.parametrize("model", sorted(FACE_MODELS))
def test_what_the_solvers_refuse_or_cannot_count_is_refused(model):
    three = replace(FACE_MODELS[model], landmark_numbers=FACE_MODELS[model].landmark_numbers[:3])
    _, landmarks, _ = scene(1, model)
    with pytest.raises(HeadPoseError, match=r"explains the landmarks: .*npoints >= 4"):
        estimate_head_pose(landmarks, CAMERA, LENS, three)
    with pytest.raises(HeadPoseError, match=r"explains the landmarks: found \[.*nan"):
        estimate_head_pose(landmarks * 1e200, CAMERA, None, model)
    with pytest.raises(HeadPoseError, match=r"found (\[.*nan|them (inf|nan) pixels off)"):
        estimate_head_pose(landmarks, CAMERA, LENS * 1e300, model)


def test_nonsense_gives_a_pose_before_the_camera_or_an_error():
    outcomes = set()
    for seed in range(60):
        random = np.random.default_rng(seed)
        landmarks = random.uniform(0, 1280, (68, 2)) * random.choice([1, 1e-3, 1e6])
        if seed % 3 == 0:
            landmarks[:, 1] = landmarks[:, 0]
        model = sorted(FACE_MODELS)[seed % 3]
        try:
            pose, error = estimate_head_pose(landmarks, CAMERA, LENS, model)
        except HeadPoseError:
            outcomes.add("refused")
            continue
        outcomes.add("found")
        assert np.isfinite(pose).all() and error > 0
    assert outcomes == {"refused", "found"}
