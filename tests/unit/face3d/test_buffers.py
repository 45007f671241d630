"""Edits of codes and the physical buffers."""

import numpy as np
import pytest
import torch
from heads import tiny_head

from regaze.face3d.buffers import (
    BUFFERS,
    code_centre,
    edit,
    face_centre,
    physical_buffers,
    recentre,
    transfer,
)
from regaze.face3d.crop import crop_box
from regaze.face3d.flame import Flame
from regaze.face3d.render import Renderer
from regaze.face3d.texture import TextureSpace

SIZE = 64


@pytest.fixture(scope="module")
def parts():
    model = tiny_head()
    return (
        Flame(model),
        TextureSpace.from_model(model),
        Renderer(model.f, model.uvcoords, model.uvfaces, SIZE, 64),
    )


def rows(count: int = 2, seed: int = 0) -> dict:
    draw = torch.Generator().manual_seed(seed)
    light = torch.zeros(count, 9, 3)
    light[:, 0], light[:, 3] = 3.0, 0.4
    return {
        "shape": torch.randn(count, 100, generator=draw),
        "tex": torch.randn(count, 50, generator=draw),
        "exp": 0.3 * torch.randn(count, 50, generator=draw),
        "pose": 0.1 * torch.randn(count, 6, generator=draw),
        "cam": torch.tensor([[7.0, 0.0, 0.02]]).expand(count, -1).clone(),
        "light": light,
    }


def test_edit_replaces_blocks_and_nothing_else():
    codes = rows()
    kept = {name: value.clone() for name, value in codes.items()}
    new = edit(codes, exp=torch.ones(1, 50), pose=torch.ones(2, 3), light=torch.ones(1, 27))
    assert (new["exp"] == 1).all() and new["exp"].shape == (2, 50)
    assert (new["pose"][:, :3] == 1).all() and torch.equal(new["pose"][:, 3:], codes["pose"][:, 3:])
    assert new["light"].shape == (2, 9, 3) and torch.equal(new["shape"], codes["shape"])
    assert "eye_pose" not in new
    eyes = edit(codes, eye_pose=torch.zeros(1, 6), jaw=torch.full((1, 3), 2.0))
    assert eyes["eye_pose"].shape == (2, 6) and (eyes["pose"][:, 3:] == 2).all()
    whole = edit(codes, pose=torch.zeros(2, 6), shape=torch.zeros(1, 100))
    assert (whole["pose"] == 0).all() and (whole["shape"] == 0).all()
    for name, value in codes.items():
        assert torch.equal(value, kept[name]), name
    with pytest.raises(ValueError, match=r"pose: expected 2 \(or 1\) rows of 3 or 6"):
        edit(codes, pose=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="exp: expected 2"):
        edit(codes, exp=torch.zeros(3, 50))


def test_transfer_follows_diffusionrigs_modes():
    source, target = rows(2, 0), rows(1, 1)
    pose = transfer(source, target, "pose")
    assert torch.equal(pose["pose"][:, :3], target["pose"][:, :3].expand(2, -1))
    assert torch.equal(pose["pose"][:, 3:], source["pose"][:, 3:])
    assert torch.equal(pose["exp"], source["exp"]) and torch.equal(pose["cam"], source["cam"])
    exp = transfer(source, target, "exp")
    assert torch.equal(exp["pose"][:, 3:], target["pose"][:, 3:].expand(2, -1))
    assert torch.equal(exp["pose"][:, :3], source["pose"][:, :3])
    both = transfer(source, target | {"eye_pose": torch.ones(1, 6)}, "pose+exp+light+gaze")
    assert torch.equal(both["pose"], target["pose"].expand(2, -1))
    assert (both["eye_pose"] == 1).all()
    same = transfer(source, target, "")
    assert all(torch.equal(same[name], source[name]) for name in source)
    with pytest.raises(ValueError, match="mode: expected some of"):
        transfer(source, target, "pose+hair")
    with pytest.raises(ValueError, match="no eye_pose"):
        transfer(source, target, "gaze")


def test_buffers_are_aligned_and_finite(parts):
    codes = rows()
    out = physical_buffers(codes, *parts, image_size=SIZE)
    assert tuple(out) == BUFFERS
    covered = (out["normal"] != 0).any(1)
    for name, value in out.items():
        assert value.shape == (2, 3, SIZE, SIZE) and value.dtype == torch.float32, name
        assert torch.isfinite(value).all(), name
        assert (value.permute(0, 2, 3, 1)[~covered] == 0).all(), name
    assert 0.2 < float(covered.float().mean()) < 0.9
    assert out["normal"].abs().max() <= 1.001
    # seen from the front: normals point at the viewer, and up at the top of the head
    mean = out["normal"].sum((2, 3)) / covered.sum((1, 2))[:, None]
    assert (mean[:, 2] > 0.4).all()
    upper, lower = out["normal"][:, 1, : SIZE // 2].sum(), out["normal"][:, 1, SIZE // 2 :].sum()
    assert upper > lower
    with pytest.raises(ValueError, match="codes: lack light"):
        physical_buffers({k: v for k, v in codes.items() if k != "light"}, *parts)


def test_light_and_eye_edits_change_what_they_should(parts):
    codes = rows(1)
    plain = physical_buffers(codes, *parts, image_size=SIZE)
    brighter = physical_buffers(edit(codes, light=1.5 * codes["light"]), *parts, image_size=SIZE)
    torch.testing.assert_close(brighter["rendered"], 1.5 * plain["rendered"])
    assert torch.equal(brighter["normal"], plain["normal"])
    turned = edit(codes, eye_pose=torch.tensor([[0.0, 0.5, 0, 0, 0.5, 0]]))
    eyes = physical_buffers(turned, *parts, image_size=SIZE)
    changed = (eyes["albedo"] - plain["albedo"]).abs().amax(1)[0] > 1e-3
    assert 0 < int(changed.sum()) < 0.2 * SIZE * SIZE


def test_picture_frame_is_that_of_the_crop(parts):
    # A crop that is the whole picture: the same buffers, up to the reference's 224 against 223.
    codes = rows(1)
    size = 224
    tform = torch.eye(3)[None]
    whole = physical_buffers(codes, *parts, image_size=size, tform=tform)
    crop = physical_buffers(codes, *parts, image_size=size)
    torch.testing.assert_close(whole["normal"], crop["normal"], atol=1e-3, rtol=0)
    # A crop of the picture's middle: the head is smaller by the crop's share, and in its middle.
    codes["cam"] = torch.tensor([[4.0, 0.0, 0.02]])
    crop = physical_buffers(codes, *parts, image_size=size)
    box = crop_box([64, 128, 64, 128])
    tform = torch.from_numpy(box.transform()[None]).float()
    small = physical_buffers(codes, *parts, image_size=192, tform=tform)["normal"]
    share = float((small != 0).any(1).sum()) / float((crop["normal"] != 0).any(1).sum())
    assert share == pytest.approx((float(box.size) / 224) ** 2, rel=0.05)
    y, x = (np.mean(v) for v in np.nonzero((small[0] != 0).any(0).numpy()))
    assert abs(x - 96) < 4 and abs(y - 96) < 12


def test_recentring_holds_the_face_where_it_was(parts):
    flame = parts[0]
    codes = rows(2)
    wanted = code_centre(codes, flame)
    turned = edit(codes, pose=torch.tensor([[0.0, 0.6, 0.0]]))
    head = flame(turned["shape"], turned["exp"], turned["pose"])
    assert (face_centre(head.landmarks2d) - wanted).norm(dim=1).min() > 0.01
    shift = recentre(head.landmarks2d, face_centre(head.landmarks2d), wanted)
    torch.testing.assert_close(face_centre(shift), wanted)
    kept = physical_buffers(turned, *parts, image_size=SIZE, recentre_to=wanted)
    moved = physical_buffers(turned, *parts, image_size=SIZE)
    assert not torch.equal(kept["normal"], moved["normal"])
    again = physical_buffers(codes, *parts, image_size=SIZE, recentre_to=wanted)
    torch.testing.assert_close(
        again["normal"], physical_buffers(codes, *parts, image_size=SIZE)["normal"]
    )


def test_gradients_reach_the_codes(parts):
    codes = {name: value.clone().requires_grad_(True) for name, value in rows(1).items()}
    out = physical_buffers(codes, *parts, image_size=32)
    sum((value**2).sum() for value in out.values()).backward()
    for name, value in codes.items():
        assert torch.isfinite(value.grad).all() and value.grad.abs().sum() > 0, name
