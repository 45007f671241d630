"""gazenerf: gaze frames, six-point head poses, the warps to its patches and two similarities.

GazeNeRF states gaze in the head's own frame, pitch positive looking *down*; everything here is
reached from the project's one convention by a change of frame and that sign.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch
from kit import adapter, assert_close, assert_relative, fill_input

from regaze.angles import angles_from_vector, rotation_from_angles
from regaze.metrics.similarity import LUMA, psnr, ssim, ssim_grey
from regaze.normalise.face_model import FACE_MODELS
from regaze.normalise.geometry import Variant, normalise, rotation_from_vector, virtual_view
from regaze.normalise.head_pose import estimate_head_pose
from regaze.normalise.warp import make_patch, transform_points
from regaze.redirectors.gazenerf.rays import turn_features

DOWN = np.array([-1.0, 1.0])
"""Between the sign of our pitch and that of the head frame."""

GAZE_CENTRE = np.array([-29.490212, -38.563877, 22.721449])
"""mm, model axes. ``AlessandroRuzzi/GazeNeRF`` measures ETH-XGaze's head-frame gaze from the
"face centre" of the whole 50-point model, of which it takes rows 0 to 5 (chin and brow) for the
six that it uses everywhere else: a point 30 mm beside the face centre."""


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


def patch_of(name: str, entry: dict, default: dict) -> Variant:
    entry = {**default, **entry}
    size = int(entry["size"])
    return Variant(name, (size, size), float(entry["focal"]), float(entry["distance"]))


def angles_in_head(vectors) -> np.ndarray:
    return angles_from_vector(-np.asarray(vectors, np.float64)) * DOWN


@adapter("gazenerf/math_gaze_geometry")
def math_gaze_geometry(case, manifest, inputs, golden):
    feature_rotation(inputs, golden)
    assert_close(angles_in_head(inputs["vecs"]), golden["vec_pitchyaw_head"], 1e-5, name="vecs")
    columbia_angles(manifest, golden)
    poses_and_patches(manifest, golden)
    similarities(case, golden)


def feature_rotation(inputs, golden) -> None:
    """Feature triples are turned by the transpose of Ry(yaw) Rx(pitch)."""
    rotation = rotation_from_angles(np.asarray(inputs["gaze"], np.float64) * DOWN)
    assert_close(rotation, golden["rot_mats"], 1e-5, name="rot_mats")
    inverse = np.swapaxes(rotation, -1, -2)
    assert_close(inverse, golden["rot_mats_inverse"], 1e-5, name="rot_mats_inverse")
    maps = torch.from_numpy(np.asarray(inputs["emb"])).flatten(1, 2)
    turned = turn_features(maps, torch.from_numpy(np.asarray(inputs["gaze"])).to(maps))
    assert_close(turned.view(inputs["emb"].shape), golden["rotated"], 1e-5, name="rotated")


def columbia_angles(manifest, golden) -> None:
    """Head yaw p, vertical v and horizontal gaze h in degrees, from the file names."""
    note = manifest["inputs"]["columbia"]["note"]
    rows = np.array(numbers_in(note.split("=", 1)[-1]), float).reshape(-1, 3)
    head, vertical, horizontal = np.radians(rows).T
    found = np.stack([vertical, head - horizontal], -1) * DOWN
    assert_close(found, golden["columbia_gaze"], 1e-6, name="columbia")


def poses_and_patches(manifest, golden) -> None:
    config = manifest["config"]
    points = np.array(config["face_model"], np.float64)
    model = replace(FACE_MODELS["xgaze6"], points=points)
    assert_close(points, FACE_MODELS["xgaze6"].points, 1e-4, name="face_model")
    intrinsics = golden["cam"].astype(np.float64)
    camera = intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
    pose = np.concatenate([golden["hr"][..., 0], golden["ht"][..., 0]], 1).astype(np.float64)
    target = golden["gaze_target"][..., 0].astype(np.float64)
    everybody = np.tile(camera, (len(pose), 1))
    default = config["train_patch"]
    train = patch_of("train", default, default)
    evaluated = patch_of("eval", config["eval_patch"], default)
    first = normalise(everybody, pose, target, train, model)
    second = normalise(everybody, pose, target, evaluated, model)
    assert_close(first.head, golden["head_pose_norm"], 1e-5, name="head_pose_norm")
    head = rotation_from_vector(pose[:, :3])
    in_head = np.einsum("nji,nj->ni", head, target - pose[:, 3:]) - GAZE_CENTRE
    assert_close(angles_in_head(in_head), golden["gaze_head"], 1e-5, name="gaze_head")

    text = next(text for name, text in manifest["outputs"].items() if name.startswith("W_"))
    row = {name: int(at) for name, at in re.findall(r"(W_\w+) from hr\[(\d+)\]", text)}
    given = config["mpii_like_patch"]
    for name, at in row.items():
        if name.endswith("_fc"):
            centre = np.array([given["face_center"]], np.float64)
            variant = patch_of("given", given, default)
            warp = virtual_view(centre, head[[at]], everybody[[at]], variant)[1][0]
        else:
            warp = (second if name.startswith("W_eval") else first).homography[at]
        assert_relative(warp, golden[name], 1e-5, name)
    at = next(at for name, at in row.items() if name.startswith("W_eval"))
    placed = model.points @ head[at].T + pose[at, 3:]
    landmarks = (placed / placed[:, 2:]) @ intrinsics.T
    assert_relative(landmarks[:, :2], golden["landmarks6"], 1e-6, "landmarks6")
    mapped = transform_points(second.homography[at], golden["landmarks6"].astype(np.float64))
    assert_relative(mapped, golden["landmarks6_eval"], 1e-6, "landmarks6_eval")
    found, _ = estimate_head_pose(golden["landmarks6"], camera, None, model)
    assert_close(found[:3], golden["pnp_rvec"][:, 0], 1e-3, name="pnp_rvec")
    assert_close(found[3:], golden["pnp_tvec"][:, 0], 0.5, name="pnp_tvec")

    photo = drawn_photo(manifest["inputs"]["image"]["note"])
    views = {"train": (first, train), "eval": (second, evaluated)}
    for key, wanted in golden.items():
        if not (match := re.fullmatch(r"patch_(train|eval)_sub(\d+)", key)):
            continue
        result, variant = views[match[1]]
        at = next(at for name, at in row.items() if name.startswith(f"W_{match[1]}"))
        patch = make_patch(photo, result.homography[at], camera, np.zeros(14), variant.size)
        step = int(match[2])
        # What is called B,G,R here has no colours: the channels only keep their order.
        difference = np.abs(patch[::step, ::step, ::-1].astype(int) - wanted)
        assert (difference > 1).mean() <= 0.01, f"{key}: {difference.max()} grey levels"


def drawn_photo(note: str) -> np.ndarray:
    height, width = numbers_in(note)[:2]
    y, x = np.mgrid[:height, :width]
    squares = 200 * ((x // 20 + y // 20) % 2)
    return np.stack([x * 255 // width, y * 255 // height, squares], -1).astype(np.uint8)


def similarities(case, golden) -> None:
    """piq's SSIM and PSNR; it halves large pictures first, by averaging.

    ``seed2_*`` are the earlier system's: of levels cut off below, and of a grey that weighs R, G, B
    as if they were B, G, R.
    """
    shape = numbers_in(case.manifest["inputs"]["img_a,img_b"]["note"].split("[")[1])[:4]
    found, wanted = pictures("img_a", "img_b", shape, case.seed)
    assert_close(ssim(found, wanted), golden["piq_ssim_each"], 1e-5, name="ssim")
    assert_close(psnr(found, wanted), golden["piq_psnr_each"], 1e-4, name="psnr")
    difference = (found - wanted).abs().mean(dim=(1, 2, 3)) / 2
    assert_close(difference, golden["l1_each"], 1e-5, name="l1")
    levels = [(((one[:1] + 1) / 2 * 255).floor() / 255) * 2 - 1 for one in (found, wanted)]
    assert_close(psnr(*levels)[0], golden["seed2_psnr"], 1e-3, name="seed2_psnr")
    grey = ssim_grey(*levels, LUMA[::-1])[0]
    assert_close(grey, golden["seed2_ssim_gray"], 1e-4, name="seed2_ssim_gray")
    shape = numbers_in(case.manifest["inputs"]["img_big_*"]["note"])[-4:]
    found, wanted = pictures("img_big_a", "img_big_b", shape, case.seed)
    factor = max(1, round(min(shape[2:]) / 256))
    small = [torch.nn.functional.avg_pool2d(one, factor) for one in (found, wanted)]
    assert_close(ssim(*small)[0], golden["piq_ssim_512"], 1e-5, name="ssim_512")


def pictures(first: str, second: str, shape, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two pictures in [-1, 1]; the second is mostly the first."""
    a, b = (fill_input(name, shape, seed, 0, 1) for name in (first, second))
    b = np.clip(np.float32(0.7) * a + np.float32(0.3) * b, 0, 1)
    return tuple(torch.from_numpy(one).double() * 2 - 1 for one in (a, b))
