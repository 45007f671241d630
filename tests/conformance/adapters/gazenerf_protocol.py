"""gazenerf: cameras of published heads, what their data are prepared by, and lists of pairs."""

from __future__ import annotations

import numpy as np
import torch
from kit import adapter, assert_close, fill_input

from regaze.face3d import nl3dmm_fit
from regaze.face3d.nl3dmm import Drawing, lit, mean_normals, projected
from regaze.masks.clean import dilated_eyes, without_fringes
from regaze.metrics.sweeps import per_apparent_gaze, step_errors
from regaze.paper_pairs import listed_pairs, listed_split, published_name
from regaze.redirectors.gazenerf import cameras, rays
from regaze.redirectors.gazenerf.field import HeadField
from regaze.rotations import euler_to_matrix, matrix_to_euler


@adapter("gazenerf/math_cameras")
def math_cameras(case, golden):
    count, side = case.config["view_num"], case.config["featmap_size"]
    found = cameras.orbit(side, count)
    assert_close(found.rotation, golden["circle_Rmats"], 1e-5, name="circle_Rmats")
    assert_close(found.centre, golden["circle_Tvecs"], 1e-5, name="circle_Tvecs")
    front = cameras.frontal_camera(side)
    assert_close(front.rotation, golden["base_Rmat"], 1e-6, name="base_Rmat")
    assert_close(front.centre, golden["base_Tvec"], 1e-6, name="base_Tvec")
    for key in (key for key in golden if key.startswith("inv_inmat") and key[9:].isdigit()):
        inverse = cameras.frontal_camera(int(key[9:])).inverse
        assert_close(inverse, golden[key], 1e-6, name=key)
    grid = rays.pixel_grid(side)
    assert_close(grid.T[None], golden["xy"], name="xy")
    assert_close(grid[None] / side, golden["uv"], 1e-6, name="uv")

    angles = torch.from_numpy(golden["angles"])
    turned = euler_to_matrix(angles.flip(-1), "ZYX")
    assert_close(turned, golden["euler_rmats"], 1e-5, name="euler_rmats")
    back = matrix_to_euler(turned, "ZYX").flip(-1)
    assert_close(back, golden["euler_back"], 1e-5, name="euler_back")
    seen = cameras.turned_about_head(cameras.frontal_camera(side, len(angles)), angles)
    assert_close(seen.rotation, golden["gui_Rmats"], 1e-5, name="gui_Rmats")
    assert_close(seen.centre, golden["gui_Tvecs"], 1e-5, name="gui_Tvecs")

    key = next(key for key in golden if key.startswith("inv_inmat_feat"))
    small, large = map(int, key.removeprefix("inv_inmat_feat").split("_from"))
    matrix = torch.from_numpy(golden["inmat"])
    eye, origin = torch.eye(3).expand_as(matrix), torch.zeros(len(matrix), 3)
    fitted = cameras.fitted_camera(eye, origin, matrix, small / large)
    assert_close(fitted.inverse, golden[key], 1e-5, name=key)


@adapter("gazenerf/math_misc_headnerf")
def math_misc_headnerf(case, inputs, golden):
    height, width = case.config["grid"]
    pitch0, pitch1, yaw0, yaw1 = case.config["grid_range"]
    lines = np.linspace(pitch0, pitch1, height), np.linspace(yaw0, yaw1, width)
    asked = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
    beside, below = (step_errors(inputs["pred_grid"], asked, axis) for axis in (1, 0))
    for start, values in (
        ("h", beside.ravel()),
        ("v", below.ravel()),
        ("total", np.concatenate([beside.ravel(), below.ravel()])),
    ):
        assert_close(values.mean(), golden[f"{start}_dyn_error"], 1e-5, name=f"{start}_dyn_error")
    slope = per_apparent_gaze(inputs["apparent_norm"], inputs["disp"])
    assert_close(slope, golden["calibrated"], 1e-5, name="calibrated")
    assert_close(without_fringes(inputs["label_in"]), golden["label_out"], name="label_out")
    assert_close(dilated_eyes(inputs["eye_in"]), golden["eye_out"], name="eye_out")

    gaze = torch.from_numpy(inputs["gaze"])
    side = golden["coord_maps"].shape[-1]
    field = HeadField(
        "headnerf_gaze", size_px=2 * side, side=side, channels=3, hidden=4, samples=3, shape=2,
        appearance=2, gaze_dim=6, gaze_columns=True, near_points=False,
    )  # fmt: skip
    told = field.gaze_embedding(gaze, torch.zeros(len(gaze), 1, side, side))
    assert_close(told[:, 0, 1:-2], golden["gaze_d6"], 1e-6, name="gaze_d6")
    maps = told[0, :, -2:].T.reshape(2, side, side)
    assert_close(maps, golden["coord_maps"][1:], 1e-6, name="coord_maps")


def faces_at(case, name, shape, low=-1.0, high=1.0):
    return torch.from_numpy(fill_input(name, shape, case.seed, low, high))


@adapter("gazenerf/math_nl3dmm")
def math_nl3dmm(case, golden):
    normals = torch.nn.functional.normalize(faces_at(case, "normals", [2, 11, 3]), dim=-1)
    colours, light = (torch.from_numpy(case.inputs[name]) for name in ("vcolor", "gamma"))
    assert_close(lit(colours, normals, light), golden["sh_color"], 1e-3, 1e-5, name="sh_color")
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    found = mean_normals(torch.from_numpy(case.inputs["tetra"]), triangles)
    assert_close(found, golden["vert_normals"], 1e-5, name="vert_normals")
    side = 256
    matrix = torch.tensor([[812 * side / 400, 0, 128], [0, 812 * side / 400, 128], [0, 0, 1.0]])
    points = torch.from_numpy(case.inputs["cam_pts"]) + torch.tensor([0.0, 0.0, 6.0])
    found = projected(points, matrix.expand(2, 3, 3))
    assert_close(found, golden["proj_uv"], 1e-3, 1e-5, name="proj_uv")
    turned = nl3dmm_fit.head_rotation(torch.from_numpy(case.inputs["angles"]))
    assert_close(turned, golden["fit_rot"], 1e-5, name="fit_rot")
    assert_close(nl3dmm_fit.landmark_weights()[None], golden["lm_weight"], 1e-6, name="lm_weight")
    nl3dmm_losses(case, golden)


def nl3dmm_losses(case, golden):
    pictures = [
        faces_at(case, name, [2, 8, 8, 3], 0, 1).permute(0, 3, 1, 2) for name in ("img_a", "img_b")
    ]
    mask = torch.from_numpy(case.inputs["img_mask"]).permute(0, 3, 1, 2) > 0
    marks = torch.from_numpy(case.inputs["pred_lm"])
    wanted = marks + faces_at(case, "lm_err", [2, 68, 2], -5, 5)
    colours = faces_at(case, "vert_colors", [2, 13, 3], 0, 255)
    codes = {name: faces_at(case, name, [2, size]) for name, size in CODES.items()}
    codes["illu"] = torch.from_numpy(case.inputs["gamma"])
    skin = torch.from_numpy(case.inputs["skin"]).flatten() > 0
    drawn = Drawing(pictures[0], mask, marks, colours)
    found = nl3dmm_fit.terms(drawn, pictures[1], wanted, skin, codes)
    for name, key in LOSS_NAMES.items():
        assert_close(found[name], golden[f"loss_{key}"], rtol=1e-5, name=key)
    whole = nl3dmm_fit.total(found, case.config["lm_w"])
    assert_close(whole, golden["loss_total_loss"], rtol=1e-5, name="total_loss")


CODES = {"iden": 10, "text": 10, "expr": 7}
LOSS_NAMES = {
    "photo": "img",
    "landmarks": "lm",
    "light": "illu_mean_loss",
    "codes": "code_regu",
    "skin": "skin",
}


@adapter("gazenerf/eval_pairs")
def eval_pairs(golden):
    """What pairs are drawn, and which persons are tested and trained on."""
    for key, wanted in golden.items():
        if key.startswith("target_index_"):
            name = key.removeprefix("target_index_")
            pairs = listed_pairs(name, 0, len(wanted) + 1)
            assert_close([source for source, _ in pairs], np.arange(len(wanted)), name=key)
            assert_close([target for _, target in pairs], wanted, name=key)
            continue
        part, _, name = key.split("_", 2)
        name = {"gazecapture": "gaze_capture"}.get(name, name)
        everybody = [f"{name}_subject{number:05d}" for number in range(4000)]
        assert published_name("gazenerf_hdf5", everybody) == name
        found = listed_split(name, everybody)[part]
        assert_close([int(one[-5:]) for one in found], np.sort(wanted), name=key)
