"""faze-preprocess: the virtual camera, its labels, the frame check and the warped patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from kit import adapter, assert_close, assert_relative

from regaze.normalise.camera import pad_distortion
from regaze.normalise.face_model import FACE_MODELS
from regaze.normalise.frame_check import FrameCheck
from regaze.normalise.geometry import VARIANTS, Variant, normalise
from regaze.normalise.head_pose import estimate_head_pose
from regaze.normalise.warp import make_patch, transform_points, undistortion_map

ORIGINS = {
    "row 13 of the face model": "face_centre",
    "mean of face-model rows 10 and 11": "inner_corners",
}
UNDISTORT = {"GazeCapture": "same", "MPIIGaze": "centred"}
FIELDS = {
    "R": ("rotation", 1e-6),
    "gaze": ("gaze", 1e-5),
    "gaze_left": ("gaze_left", 1e-5),
    "gaze_right": ("gaze_right", 1e-5),
    "head": ("head", 1e-5),
    "gaze_vector": ("gaze_vector", 1e-6),
    # Stored as float32: hundreds of millimetres carry 3e-5 mm of rounding.
    "gaze_origin": ("origin", 1e-3),
}


def variant_of(name: str, config: dict) -> Variant:
    """The virtual camera that the manifest describes; the project's own when it says nothing."""
    if name not in config:
        return VARIANTS[name]
    entry = config[name]
    origin = ORIGINS[entry["origin"]] if "origin" in entry else VARIANTS[name].origin
    size = tuple(entry["size_wh"])
    return Variant(name, size, float(entry["focal_length"]), float(entry["distance"]), origin)


def check_face_model(folder: Path, file_name: str, model: str) -> None:
    """Compare a face model with its table beside the cases, where there is one."""
    path = folder.parent / file_name
    if path.is_file():
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        np.testing.assert_array_equal(FACE_MODELS[model].points, rows)


@adapter("faze-preprocess/normalization")
def normalization(manifest, inputs, golden, folder):
    check_face_model(folder, "face_model_14.json", "sfm14")
    camera, pose = inputs["camera_parameters"], inputs["head_pose"]
    for name in VARIANTS:
        if f"{name}_R" not in golden:
            continue
        variant = variant_of(name, manifest["config"])
        result = normalise(camera, pose, inputs["gaze_target"], variant)
        assert (result.problem == "").all(), result.problem
        assert_relative(result.homography, golden[f"{name}_W"], 1e-6, f"{name}_W")
        for key, (field, tolerance) in FIELDS.items():
            if f"{name}_{key}" in golden:
                wanted = golden[f"{name}_{key}"]
                assert_close(getattr(result, field), wanted, tolerance, name=f"{name}_{key}")
        wanted = golden["head_unnormalised"]
        assert_close(result.head_unnormalised, wanted, 1e-5, name="head_unnormalised")
    check = FrameCheck("case", np.asarray(inputs["test_mesh"], np.float64))
    boxes = check.extents(camera, inputs["distortion_parameters"], pose)
    accepted = check.accepts(boxes, inputs["image_size_wh"])
    np.testing.assert_array_equal(accepted, golden["accepted_by_test_mesh"])
    # `accepted_by_sfm_mesh` needs eos' dense mesh, which has its own terms and is not shipped.


@adapter("faze-preprocess/images")
def images(manifest, inputs, golden):
    distortion = pad_distortion(inputs["distortion_parameters"])
    compared = 0
    for row, camera in enumerate(np.asarray(inputs["camera_parameters"], np.float64)):
        photo = np.asarray(inputs[f"image{row}_bgr"])
        height, width = photo.shape[:2]
        for name in VARIANTS:
            variant = variant_of(name, manifest["config"])
            result = normalise(
                camera, inputs["head_pose"][row], inputs["gaze_target"][row], variant
            )
            if f"W{row}_{name}" in golden:
                assert_relative(result.homography[0], golden[f"W{row}_{name}"], 1e-6, f"W{row}")
            labels = golden.get(f"labels{row}_{name}")
            if labels is not None:
                assert_close(result.labels[0, : len(labels)], labels, 1e-5, name=f"labels{row}")
            for mode, undistort_camera in UNDISTORT.items():
                wanted = golden.get(f"patch{row}_{name}_{mode}_rgb")
                if wanted is None:
                    continue
                # The project's default, one resampling, is compared with this order by unit tests:
                # how far apart they are depends on how fine the picture is.
                patch = make_patch(
                    photo,
                    result.homography[0],
                    camera,
                    distortion[row],
                    variant.size,
                    undistort_camera=undistort_camera,
                    resampling="two_step",
                )
                compare_patches(patch, wanted, f"patch{row}_{name}_{mode}")
                compared += 1
        for mode, undistort_camera in UNDISTORT.items():
            wanted = golden.get(f"map{row}_{mode}")
            if wanted is None:
                continue
            step = -(-height // wanted.shape[0])
            maps = undistortion_map(camera, distortion[row], (width, height), undistort_camera)
            assert_close(np.stack(maps, -1)[::step, ::step], wanted, 1e-3, name=f"map{row}_{mode}")
    assert compared, "no patch in the case"


def compare_patches(patch, wanted, name: str) -> None:
    """At most 2 grey levels apart on 99 % of the values (OpenCV's versions differ)."""
    assert patch.shape == wanted.shape and patch.dtype == np.uint8
    difference = np.abs(patch.astype(int) - wanted)
    assert (difference > 2).mean() <= 0.01, f"{name}: {difference.max()} grey levels"


def poses_from(landmarks, camera, model: str) -> np.ndarray:
    """Return the head poses (N, 6) of undistorted landmarks (N, M, 2)."""
    rows = zip(landmarks, camera, strict=True)
    return np.stack([estimate_head_pose(points, one, None, model)[0] for points, one in rows])


@adapter("faze-preprocess/head_pose_pnp")
def head_pose_pnp(manifest, inputs, golden):
    numbers = manifest["config"]["landmark_numbers_1_based"]
    assert list(FACE_MODELS["sfm14"].landmark_numbers) == numbers
    poses = poses_from(inputs["landmarks"], inputs["camera_parameters"], "sfm14")
    compare_poses(poses, golden)


def compare_poses(poses, golden) -> None:
    assert_close(poses[:, :3], golden["rotation_vector"], 1e-3, name="rotation_vector")
    assert_close(poses[:, 3:], golden["translation"], 0.5, name="translation")


@adapter("faze-preprocess/xgaze_normalization")
def xgaze_normalization(manifest, inputs, golden, folder):
    check_face_model(folder, "face_model_xgaze_6.json", "xgaze6")
    camera = inputs["camera_parameters"]
    compare_poses(poses_from(inputs["landmarks6"], camera, "xgaze6"), golden)
    # The rest is compared at the golden poses: what PnP may differ by would drown it.
    pose = np.concatenate([golden["rotation_vector"], golden["translation"]], axis=1)
    for name, entry in manifest["config"].items():
        if not isinstance(entry, dict):
            continue
        size = int(entry["size"])
        variant = Variant(name, (size, size), float(entry["focal"]), float(entry["distance"]))
        result = normalise(camera, pose, inputs["gaze_target"], variant, "xgaze6")
        assert (result.problem == "").all(), result.problem
        assert_relative(result.homography, golden[f"W_{size}"], 1e-6, f"W_{size}")
        assert_close(result.rotation, golden["R"], 1e-6, name="R")
        assert_close(result.gaze, golden["gaze"], 1e-5, name="gaze")
        assert_close(result.head, golden["head"], 1e-5, name="head")
        wanted = golden.get(f"landmarks68_in_{size}")
        if wanted is not None:
            mapped = transform_points(result.homography, inputs["landmarks68"])
            assert_relative(mapped, wanted, 1e-6, "landmarks68")
