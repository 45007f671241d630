"""The encoder with its head: codes, heads, pictures, folders and published containers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import tiny_head
from safetensors.torch import save_file

from regaze.face3d.deca import GREY, Deca, encoder_identity, load_encoder, load_published
from regaze.face3d.encode import open_encoder
from regaze.face3d.encoders import PRESETS
from regaze.face3d.model import model_hash, save_flame


@pytest.fixture(scope="module")
def head():
    return tiny_head()


@pytest.fixture
def deca(head):
    torch.manual_seed(0)
    return Deca(head, "tiny")


def some_codes(batch=2):
    torch.manual_seed(1)
    codes = {
        "shape": 0.5 * torch.randn(batch, 100),
        "tex": 0.1 * torch.randn(batch, 50),
        "exp": 0.1 * torch.randn(batch, 50),
        "pose": torch.zeros(batch, 6),
        "cam": torch.tensor([[8.0, 0.0, 0.02]]).repeat(batch, 1),
        "light": torch.zeros(batch, 9, 3),
        "detail": torch.zeros(batch, 128),
    }
    codes["light"][:, 0] = 3.0
    return codes


def test_codes_do_not_depend_on_the_batch(deca):
    crops = torch.rand(11, 3, 32, 32)
    whole = deca.encode(crops)
    assert {name: tuple(value.shape[1:]) for name, value in whole.items()} == {
        "shape": (100,), "tex": (50,), "exp": (50,), "pose": (6,), "cam": (3,),
        "light": (9, 3), "detail": (128,),
    }  # fmt: skip
    for row in (0, 7, 8, 10):
        one = deca.encode(crops[row : row + 1])
        assert all(torch.equal(one[name][0], whole[name][row]) for name in whole)
    assert deca.training, "the mode is given back"
    assert len(deca.encode(crops[:0])["light"]) == 0


def test_expression_comes_from_the_second_encoder(head):
    torch.manual_seed(0)
    emoca = Deca(head, "tiny", expression_encoder=True).eval()
    crops = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(emoca.encode(crops)["exp"], emoca.E_expression(crops))
    assert emoca.kind == "emoca"


def test_pictures_of_a_head(deca):
    codes = some_codes()
    drawn = deca.render(codes, image_size=64)
    for name in ("image", "albedo", "normals", "shaded"):
        assert drawn[name].shape == (2, 3, 64, 64)
    alpha = drawn["alpha"]
    assert 0.1 < float(alpha.mean()) < 0.9
    assert float((drawn["normals"] * (1 - alpha)).abs().max()) == 0.0
    flat = deca.render(codes, image_size=64, light=False)
    torch.testing.assert_close(flat["image"], flat["albedo"])
    front = drawn["normals"][:, 2:][drawn["front"] > 0]
    assert float((front > 0).float().mean()) > 0.99, "seen surfaces face the viewer"


def test_normals_point_to_the_subjects_left_where_the_picture_is_right(deca):
    drawn = deca.render(some_codes(1), image_size=64)
    weight = drawn["normals"][0] * drawn["alpha"][0]
    assert float(weight[0, :, 40:].sum()) > 0 > float(weight[0, :, :24].sum())
    assert float(weight[2].sum()) > 0


def test_eyes_turn_and_nothing_else_does(deca):
    codes = some_codes(1)
    left = deca.decode(codes, torch.tensor([[0.0, 0.4, 0.0, 0.0, 0.4, 0.0]]))
    ahead = deca.decode(codes)
    kept = deca.decode(codes | {"eye_pose": torch.tensor([[0.0, 0.4, 0.0, 0.0, 0.4, 0.0]])})
    torch.testing.assert_close(left.vertices, kept.vertices)
    moved = (left.vertices - ahead.vertices).norm(dim=-1)[0]
    balls = torch.cat([torch.as_tensor(deca.head.rows_of(f"{s}_eye")) for s in ("left", "right")])
    assert float(moved[balls].max()) > 0.003
    skin = torch.ones(len(moved), dtype=bool)
    skin[balls] = False
    assert float((moved[skin] > 1e-6).float().mean()) < 0.4


def test_heads_without_texture_chart_or_mask(head, deca):
    grey = Deca(replace(head, MU=None, PC=None), "tiny").albedo(torch.randn(2, 50))
    assert grey.shape == (2, 3, 256, 256) and grey.unique().tolist() == [pytest.approx(GREY)]
    bare = Deca(replace(head, uvcoords=None, uvfaces=None, MU=None, PC=None), "tiny")
    with pytest.raises(ValueError, match="expected texture coordinates"):
        bare.renderer()
    unmasked = Deca(replace(head, uv_face_mask=None), "tiny").render(some_codes(), image_size=64)
    assert torch.equal(unmasked["face"], unmasked["front"])
    masked = deca.render(some_codes(), image_size=64)
    assert 0 < float(masked["face"].sum()) < float(masked["front"].sum())
    assert deca.displacement(some_codes()) is None, "there is no network for it"


def test_folder_is_loaded_strictly(head, deca, tmp_path):
    weights = deca.state_dict()
    assert {name.split(".")[0] for name in weights} == {"E_flame"}
    save_file(weights, tmp_path / "model.safetensors")
    record = {"kind": "encoder", "config": {"class": "deca", "preset": "tiny"}}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(record | {"head_sha256": model_hash(head)}))
    found = load_encoder(tmp_path, head)
    crops = torch.rand(3, 3, 32, 32)
    assert torch.equal(found.encode(crops)["shape"], deca.encode(crops)["shape"])
    identity = encoder_identity(found)
    assert identity["encoder"] == "deca-tiny" and len(identity["checkpoint_sha256"]) == 64
    assert not any(p.requires_grad for p in found.parameters())
    path.write_text(json.dumps(record | {"head_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="head_sha256"):
        load_encoder(tmp_path, head)
    path.write_text(json.dumps(record | {"kind": "estimator"}))
    with pytest.raises(ValueError, match="expected 'encoder', found 'estimator'"):
        load_encoder(tmp_path, head)


def test_published_weights(head, tmp_path, monkeypatch):
    # containers do not depend on the trunk, and four ResNet-50 take half a minute
    monkeypatch.setitem(PRESETS, "reference", PRESETS["tiny"])
    torch.manual_seed(0)
    whole = Deca(head, "reference", expression_encoder=True, detail=True).eval()
    state = whole.state_dict()

    def part(name):
        cut = f"{name}."
        return {k.removeprefix(cut): v for k, v in state.items() if k.startswith(cut)}

    names = ("E_flame", "E_detail", "D_detail")
    torch.save({name: part(name) for name in names}, tmp_path / "deca_model.tar")
    # of the user's own training on this head model
    own_head = {"head_sha256": model_hash(head)}
    found = load_published(head, deca=tmp_path / "deca_model.tar", **own_head)
    assert found.kind == "deca" and len(found.checkpoint_sha256) == 64
    crops = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = whole.E_detail(torch.cat([crops, torch.zeros(7, 3, 32, 32)]))[:1]
    codes = found.encode(crops)
    assert torch.equal(codes["detail"], expected)
    own = found.displacement(codes)
    assert own.shape == (1, 1, 256, 256)
    found.head = replace(head, fixed_displacement=np.full((256, 256), 0.002, np.float32))
    shifted = found.displacement(codes)
    found.head = replace(head, fixed_displacement=None)
    torch.testing.assert_close(found.displacement(codes) + 0.002, shifted)
    found.head = head
    folder = tmp_path / "run" / "detail" / "checkpoints"
    folder.mkdir(parents=True)
    lightning = {"state_dict": {f"deca.{key}": value for key, value in state.items()}}
    torch.save(lightning, folder / "epoch=1-loss=3.5.ckpt")
    emoca = load_published(head, emoca=tmp_path / "run", **own_head)
    assert emoca.kind == "emoca"
    alone = load_published(head, emoca=folder / "epoch=1-loss=3.5.ckpt", **own_head)
    assert alone.checkpoint_sha256 == emoca.checkpoint_sha256 != found.checkpoint_sha256
    save_flame(tmp_path / "head.npz", head)
    files = {"deca": tmp_path / "deca_model.tar", **own_head}
    opened = open_encoder(tmp_path / "head.npz", **files, device="cpu")
    assert opened.kind == "deca" and opened.checkpoint_sha256 == found.checkpoint_sha256
    lightning["state_dict"].pop("deca.E_expression.layers.0.bias")
    torch.save(lightning, folder / "epoch=2-loss=1.5.ckpt")
    with pytest.raises(ValueError, match=r"E_expression.*missing layers\.0\.bias"):
        load_published(head, emoca=tmp_path / "run", **own_head)
    with pytest.raises(ValueError, match="exactly one"):
        load_published(head)
