"""FLAME's files, its layer and the rotations around it."""

import numpy as np
import torch
from kit import adapter, assert_close

from regaze import rotations
from regaze.face3d.convert import read_landmarks, read_model
from regaze.face3d.flame import Flame
from regaze.face3d.model import make_model
from regaze.face3d.pickles import read_pickle


@adapter("face3d/flame_files*")
def files(case):
    folder = case.folder
    found = {**read_model(folder / "generic_model.pkl")}
    found["J"] = read_pickle(folder / "generic_model.pkl")["J"]
    found.update(read_landmarks(folder / "landmark_embedding.npy"))
    assert set(found) == set(case.golden)
    for name, expected in case.golden.items():
        value = found[name]
        if value.dtype.kind == "f":
            value = value.astype(np.float32)
        assert value.dtype == expected.dtype, name
        assert_close(value, expected, rtol=1e-6, atol=1e-9, name=name)


@adapter("face3d/flame_layer*")
def layer(case):
    config, golden = case.config, case.golden
    arrays = {**golden, **case.inputs, "n_shape_total": config.get("expression_offset", 300)}
    model = make_model(arrays, case.name)
    flame = Flame(model, config.get("n_shape", 100), config.get("n_exp", 50))
    codes = {n: torch.from_numpy(golden[n]) for n in ("shape", "exp", "pose", "eye_pose")}
    for kind, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-6)):
        flame = flame.to(kind)
        given = {name: value.to(kind) for name, value in codes.items()}
        out = flame(**given)
        for name in ("vertices", "landmarks2d", "landmarks3d", "joints", "rotations"):
            assert_close(getattr(out, name), golden[name], tolerance, name=name)
        assert_close(flame.shaped(given["shape"], given["exp"]), golden["v_shaped"], tolerance)
        assert_close(out.contour_row, golden["contour_row"], name="contour_row")
        del given["eye_pose"]
        assert_close(flame(**given).vertices, golden["vertices_eye0"], tolerance)
        turns = out.rotations[:, 0] @ out.rotations[:, 1]
        yaw = torch.rad2deg(rotations.yaw_angle(turns))
        assert_close(yaw, golden["yaw_deg"], 1e-4, name="yaw")


def _same_turn(found, expected, tolerance, name):
    """Axis-angles, which near a half turn are the same up to the sign of the axis."""
    found, expected = found.numpy(), np.asarray(expected)
    near = np.linalg.norm(expected, axis=-1) > np.pi - 0.02
    flip = near & ((found * expected).sum(-1) < 0)
    assert_close(np.where(flip[:, None], -found, found)[~flip], expected[~flip], tolerance,
                 name=name)  # fmt: skip
    length = np.linalg.norm(found[flip], axis=-1) + np.linalg.norm(expected[flip], axis=-1)
    assert_close(length, np.full(length.shape, 2 * np.pi), 0.05, name=name)


@adapter("face3d/rotations*")
def conversions(case):
    golden = {name: torch.from_numpy(np.asarray(v)) for name, v in case.golden.items()}
    axis, euler = golden["axis_angle"], golden["euler_xyz"]
    tolerance = 2e-6
    exact = {
        "rodrigues": rotations.rodrigues(axis),
        "aa_to_quat": rotations.axis_angle_to_quaternion(axis),
        "quat_to_mat": rotations.quaternion_to_matrix(golden["aa_to_quat"]),
        "euler_to_quat": rotations.euler_to_quaternion(euler),
        "euler_to_mat": rotations.quaternion_to_matrix(rotations.euler_to_quaternion(euler)),
        "mat_y_angle": rotations.yaw_angle(golden["rodrigues"]),
        "p3d_axis_angle_to_matrix": rotations.axis_angle_to_matrix(axis),
        "p3d_matrix_to_rotation_6d": rotations.matrix_to_rotation_6d(
            golden["p3d_axis_angle_to_matrix"]
        ),
        "p3d_rotation_6d_to_matrix": rotations.rotation_6d_to_matrix(golden["rotation_6d"]),
    }
    for name, value in exact.items():
        assert_close(value, golden[name], tolerance, name=name)
    matrices = golden["p3d_axis_angle_to_matrix"]
    # a quaternion and its negative are the same turn
    found, expected = rotations.matrix_to_quaternion(matrices), golden["p3d_matrix_to_quaternion"]
    sign = torch.sign((found * expected).sum(-1, keepdim=True))
    assert_close(found * sign, expected, tolerance, name="p3d_matrix_to_quaternion")
    _same_turn(rotations.euler_to_axis_angle(euler), golden["euler_to_axis"], 1e-5, "euler")
    _same_turn(
        rotations.matrix_to_axis_angle(matrices),
        golden["p3d_matrix_to_axis_angle"], 2e-5, "matrix_to_axis_angle",
    )  # fmt: skip
    for name, expected in golden.items():
        if name.startswith("p3d_euler_to_matrix_"):
            order = name.rsplit("_", 1)[1]
            assert_close(rotations.euler_to_matrix(euler, order), expected, tolerance, name=name)
            back = rotations.matrix_to_euler(expected, order)
            assert_close(back, golden[f"p3d_matrix_to_euler_{order}"], 2e-5, name=order)
