import dataclasses

import numpy as np
import pytest
import torch
from numpy_flame import posed, shaped

from regaze.capture.landmarks import gather
from regaze.face3d.flame import Flame, contour_row
from regaze.rotations import euler_to_matrix


def codes(batch=3, seed=0, kind=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    sizes = {"shape": 100, "exp": 50, "pose": 6, "eye_pose": 6, "neck_pose": 3}
    return {
        name: 0.3 * torch.randn(batch, size, generator=draw, dtype=kind)
        for name, size in sizes.items()
    }


def test_agrees_with_the_layer_in_numpy(model):
    flame, given = Flame(model).double(), codes()
    out = flame(**given)
    for row in range(3):
        one = {name: value[row].numpy() for name, value in given.items()}
        pose = np.stack(
            [one["pose"][:3], one["neck_pose"], one["pose"][3:], *one["eye_pose"].reshape(2, 3)]
        )
        expected = posed(model, one["shape"][:12], one["exp"][:16], pose)
        assert np.abs(out.vertices[row].numpy() - expected).max() < 1e-7
        assert np.abs(out.landmarks3d[row].numpy() - gather(model, expected)).max() < 1e-7
        found = flame.shaped(given["shape"], given["exp"])[row].numpy()
        assert np.abs(found - shaped(model, one["shape"][:12], one["exp"][:16])).max() < 1e-7


def test_rows_do_not_depend_on_the_batch(model):
    flame, given = Flame(model), codes(4, kind=torch.float32)
    together = flame(**given)
    for row in range(4):
        alone = flame(**{name: value[row : row + 1] for name, value in given.items()})
        assert torch.allclose(alone.vertices[0], together.vertices[row], atol=1e-7)
        assert torch.allclose(alone.landmarks2d[0], together.landmarks2d[row], atol=1e-7)


def test_gradients_reach_every_code(model):
    flame = Flame(model).double()
    given = {name: value[:1].requires_grad_() for name, value in codes().items()}
    weight = torch.randn(1, 68, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    probe = torch.randn(len(model.v_template), dtype=torch.float64)

    def loss(*values):
        out = flame(**dict(zip(given, values, strict=True)))
        return (out.landmarks2d * weight).sum() + (out.vertices[..., 1] * probe).sum()

    slopes = torch.autograd.grad(loss(*given.values()), list(given.values()))
    for name, slope in zip(given, slopes, strict=True):
        assert slope.abs().sum() > 0, name
    step = 1e-6
    for name, slope in zip(given, slopes, strict=True):
        direction = torch.randn_like(given[name])
        ends = []
        for sign in (1, -1):
            moved = {**given, name: given[name] + sign * step * direction}
            ends.append(loss(*moved.values()))
        difference = float((ends[0] - ends[1]).detach() / (2 * step))
        assert difference == pytest.approx(float((slope * direction).sum()), rel=1e-4, abs=1e-6)


def test_zero_pose_has_finite_gradients(model):
    flame = Flame(model)
    pose = torch.zeros(1, 6, requires_grad=True)
    out = flame(torch.zeros(1, 100), torch.zeros(1, 50), pose)
    assert np.allclose(out.vertices[0].detach(), model.v_template, atol=1e-6)
    (slope,) = torch.autograd.grad(out.vertices.square().sum(), pose)
    assert torch.isfinite(slope).all()


def test_jaw_eyes_and_lids_move_what_they_should(model):
    flame = Flame(model).double()
    zero = {k: v[:1] * 0 for k, v in codes().items()}
    rest = flame(**zero).vertices[0]
    opened = flame(**{**zero, "pose": torch.tensor([[0, 0, 0, 0.3, 0, 0]]).double()})
    mouth = (opened.landmarks3d[0, 66, 1] - opened.landmarks3d[0, 62, 1]) * 1000
    assert mouth < -5
    left, right = model.rows_of("left_eye"), model.rows_of("right_eye")
    eyes = torch.tensor([[0.4, 0, 0, 0, 0, 0]]).double()
    turned = flame(**{**zero, "eye_pose": eyes}).vertices[0]
    moved = (turned - rest).norm(dim=1) * 1000
    assert moved[left].max() > 3 and moved[right].max() == 0
    # the upper lid follows the eye down through the pose correctives
    lids = model.rows_of("lids")
    upper = lids[(rest[lids, 0] > 0.02) & (rest[lids, 1] > rest[left, 1].mean() + 0.002)]
    assert ((turned - rest)[upper, 1] * 1000).min() < -1
    # an eyeball turns about its own centre
    assert (turned - rest)[left].mean(0).abs().max() < 1e-7


def test_root_turns_about_its_joint(model):
    flame = Flame(model).double()
    given = {name: value * 0 for name, value in codes(1).items()}
    given["pose"] = torch.tensor([[0, 0.5, 0, 0, 0, 0]]).double()
    out, rest = flame(**given), flame(**{**given, "pose": given["pose"] * 0})
    assert torch.allclose(out.joints[0, 0], rest.joints[0, 0])
    turn = out.rotations[0, 0]
    centre = rest.joints[0, 0]
    expected = (rest.vertices[0] - centre) @ turn.T + centre
    assert torch.allclose(out.vertices[0], expected, atol=1e-7)


def test_contour_rows_follow_the_table():
    degrees = torch.tensor([0.0, 0.4, 10.0, 38.7, 60.0, -1.0, -20.2, -38.8, -39.0, -40.0, -80.0])
    turns = euler_to_matrix(
        torch.stack([degrees * 0, torch.deg2rad(degrees), degrees * 0], -1), "XYZ"
    )
    expected = [0, 0, 10, 39, 39, 40, 59, 78, 78, 78, 78]
    assert contour_row(turns).tolist() == expected


def test_contour_is_looked_up_by_yaw(model):
    flame = Flame(model).double()
    given = {name: value * 0 for name, value in codes(2).items()}
    given["pose"] = torch.deg2rad(
        torch.tensor([[0, 0.0, 0, 0, 0, 0], [0, 25, 0, 0, 0, 0]])
    ).double()
    out = flame(**given)
    assert out.contour_row.tolist() == [0, 25]
    faces = model.f[model.dynamic_lmk_faces_idx[25]]
    bary = model.dynamic_lmk_bary_coords[25].astype(float)
    expected = np.einsum("lk,lkd->ld", bary, out.vertices[1].numpy()[faces])
    assert np.abs(out.landmarks2d[1, :17].numpy() - expected).max() < 1e-8
    assert torch.allclose(out.landmarks2d[:, 17:], out.landmarks3d[:, 17:], atol=1e-7)


def test_state_dicts_stay_empty_and_buffers_move(model):
    flame = Flame(model)
    assert not flame.state_dict() and not list(flame.parameters())
    assert flame.double().directions.dtype == torch.float64


def test_mediapipe_points(model):
    index = np.arange(105)
    bary = np.full((105, 3), 1 / 3, np.float32)
    with_points = dataclasses.replace(
        model, mediapipe_lmk_faces_idx=index, mediapipe_lmk_bary_coords=bary
    )
    out = Flame(with_points)(**codes(2, kind=torch.float32))
    expected = out.vertices[:, torch.tensor(model.f[index])].mean(2)
    assert torch.allclose(out.landmarks_mediapipe, expected, atol=1e-6)
    assert Flame(model)(**codes(2, kind=torch.float32)).landmarks_mediapipe is None


@pytest.mark.parametrize("degrees", [-35, -20, 20, 35])
def test_contour_of_a_turned_head_is_its_silhouette(model, degrees):
    flame = Flame(model).double()
    given = {name: value * 0 for name, value in codes(1).items()}
    given["pose"][0, 1] = np.radians(degrees)
    out = flame(**given)
    # turned to the left, the left ear hides behind the left cheek (landmarks 10 to 14):
    # there the contour leaves the jaw's own line for the outermost skin
    moving, fixed = out.landmarks2d[0, :17, 0], out.landmarks3d[0, :17, 0]
    hidden = slice(10, 15) if degrees > 0 else slice(2, 7)
    outward = (moving - fixed)[hidden] * np.sign(degrees) * 1000
    assert outward.min() > -0.1 and outward.mean() > 1.5
