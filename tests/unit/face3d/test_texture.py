"""Texture codes to albedo."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import tiny_head

from regaze.face3d.convert import read_texture
from regaze.face3d.model import load_flame, save_flame
from regaze.face3d.texture import EYE_COLOURS, TextureSpace, eye_overlay


def arrays(side: int = 8, count: int = 3, seed: int = 0):
    draw = np.random.default_rng(seed)
    return draw.random((side, side, 3)), draw.normal(size=(side, side, 3, count))


def test_albedo_is_mean_plus_basis_at_every_second_texel():
    mean, basis = arrays()
    space = TextureSpace(mean, basis, n_tex=3, size=4)
    codes = torch.randn(2, 3)
    found = space(codes)
    wanted = mean + np.einsum("hwck,bk->bhwc", basis, codes.numpy())
    wanted = wanted[:, ::2, ::2].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_small_bases_are_enlarged_by_repeating():
    mean, basis = arrays()
    found = TextureSpace(mean, basis, n_tex=3, size=16)(torch.zeros(1, 3))[0]
    assert found.shape == (3, 16, 16)
    np.testing.assert_allclose(
        found.numpy(), mean.repeat(2, 0).repeat(2, 1).transpose(2, 0, 1), atol=1e-6
    )


def test_bgr_and_missing_directions():
    mean, basis = arrays()
    space = TextureSpace(mean, basis, rgb=False, n_tex=50, size=8)
    codes = torch.zeros(1, 50)
    codes[:, 3:] = 5.0
    found = space(codes)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, mean[:, :, ::-1], atol=1e-6)


def test_the_procedural_head_has_a_texture():
    space = TextureSpace.from_model(tiny_head())
    found = space(torch.zeros(1, 50))
    assert found.shape == (1, 3, 256, 256) and found.dtype == torch.float32
    assert 0 <= float(found.min()) < float(found.max()) <= 1
    assert not list(space.parameters()) and not space.state_dict()


def test_heads_without_chart_or_eyes_are_named():
    model = tiny_head()
    with pytest.raises(ValueError, match="eyes: the head model has no chart"):
        eye_overlay(replace(model, uvcoords=None, uvfaces=None))
    with pytest.raises(ValueError, match="eyes: .* no vertices that turn with an eye joint alone"):
        eye_overlay(replace(model, weights=np.full_like(model.weights, 0.2)))


def test_eyes_are_painted_about_their_axes():
    model = tiny_head()
    colours, share = eye_overlay(model, 512)
    assert colours.shape == (3, 512, 512) and 0.005 < float(share.mean()) < 0.1
    # at the chart position of the vertex in the middle of the pupil, and behind the limbus
    for joint in (3, 4):
        rows = np.flatnonzero(model.weights[:, joint] == 1)
        front = rows[model.v_template[rows, 2].argmax()]
        side = rows[np.abs(model.v_template[rows, 2] - model.v_template[rows, 2].mean()).argmin()]
        for vertex, name in ((front, "pupil"), (side, "sclera")):
            face, corner = np.argwhere(model.f == vertex)[0]
            u, v = model.uvcoords[model.uvfaces[face]].mean(0)
            near = model.uvcoords[model.uvfaces[face, corner]]
            u, v = 0.3 * u + 0.7 * near[0], 0.3 * v + 0.7 * near[1]
            texel = colours[:, int((1 - v) * 512), int(u * 512)] * 255
            assert texel.numpy() == pytest.approx(np.array(EYE_COLOURS[name]), abs=25), name
    codes = torch.zeros(1, 50)
    plain = TextureSpace.from_model(model, paint_eyes=False)(codes)
    painted = TextureSpace.from_model(model)(codes)
    changed = (plain - painted).abs().amax(1)[0] > 1e-3
    assert (changed <= (eye_overlay(model)[1][0] > 0)).all() and changed.any()


@pytest.mark.parametrize("names, scale", [(("MU", "PC"), 1.0), (("mean", "tex_dir"), 255.0)])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mean, basis: (0 * mean, 0 * basis), "{0}: expected the colours of a face.*0..0"),
        (lambda mean, basis: (0 * mean, basis), "{0}: expected the colours of a face, in 0..1"),
        (lambda mean, basis: (mean / 255, basis), "{0}: expected the colours of a face"),
        (lambda mean, basis: (mean * np.nan, basis), "{0}: expected the colours of a face"),
        (lambda mean, basis: (mean, 0 * basis), "{1}: .* found 3 of 3 .* the first is 0"),
        (lambda mean, basis: (mean, basis * [1, 1, 0]), "{1}: .* found 1 of 3 .* the first is 2"),
        (lambda mean, basis: (mean, basis[..., :0]), "{0}, {1}: expected a texture, found empty"),
    ],
)
def test_textures_that_say_nothing_are_refused(tmp_path, names, scale, change, words):
    path = tmp_path / "t.npz"
    mean, basis = change(*arrays())
    np.savez(path, **{names[0]: mean * scale, names[1]: basis * scale})
    words = words.format(*names)
    with pytest.raises(ValueError, match=rf"t\.npz: ({words}|3 directions asked for)"):
        read_texture(path, 3)


def test_head_models_with_such_a_texture_or_without_shapes_are_refused(tmp_path):
    head = tiny_head()
    first = head.n_shape_total
    still, rigid = head.shapedirs.copy(), head.shapedirs.copy()
    still[:, :, :first], rigid[:, :, first:] = 0, 0
    for name, value, words in (
        ("MU", 0 * head.MU, "MU: expected the colours of a face"),
        ("PC", 0 * head.PC, "PC: expected directions that change colours"),
        ("uv_face_mask", 0 * head.uv_face_mask, "uv_face_mask: expected a part of the chart"),
        ("shapedirs", still, "shapedirs: expected identity directions that move vertices"),
        ("shapedirs", rigid, "shapedirs: expected expression directions that move vertices"),
    ):
        save_flame(tmp_path / "head.npz", replace(head, **{name: value}))
        with pytest.raises(ValueError, match=rf"head\.npz: {words}"):
            load_flame(tmp_path / "head.npz")
