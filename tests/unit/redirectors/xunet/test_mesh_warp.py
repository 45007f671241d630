"""Sources turned over the head of their code: what is read where, what is hidden, and who asks."""

import numpy as np
import pytest
import torch

from regaze.angles import rotation_from_angles
from regaze.capture.head import HeadConfig, build_head
from regaze.codes import DEFAULT_PARTS, code_dim
from regaze.face3d.deca import Deca
from regaze.face3d.flame import Flame
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared
from regaze.redirectors.xunet.mesh_warp import BELOW_EYES, MeshWarp
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.rotations import camera_flip
from regaze.training.phases import Progress

SIZE = 64
SAMPLING = {"steps": 2, "sigma_min": 0.5}


@pytest.fixture(scope="module")
def face():
    torch.manual_seed(0)
    return Deca(build_head(HeadConfig.tiny()), "tiny").eval()


@pytest.fixture
def warp(face):
    return MeshWarp(face.head, DEFAULT_PARTS, SIZE)


def codes(count, seed=0):
    drawn = torch.randn(
        count, code_dim(DEFAULT_PARTS), generator=torch.Generator().manual_seed(seed)
    )
    # Shapes vary, expressions hardly; the root's turn is not looked at.
    return drawn * torch.cat([torch.full((100,), 0.5), torch.full((56,), 0.05)])


def pictures(count):
    draw = torch.Generator().manual_seed(1)
    small = torch.rand(count, 3, 8, 8, generator=draw) * 2 - 1
    return torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bicubic").clamp(-1, 1)


def angles(*pairs):
    return torch.tensor(pairs)


def test_equal_labels_give_the_source_and_hide_nothing(warp):
    source = pictures(2)
    head, gaze = angles((0.1, -0.2), (0.2, 0.3)), angles((0.0, 0.1), (-0.2, 0.3))
    made, hidden = warp(source, codes(2), (head, head), (gaze, gaze))
    torch.testing.assert_close(made, source, atol=2e-3, rtol=0)
    # What lies beside the head is not behind it, but for pixels of the outline itself.
    assert hidden.shape == (2, 1, SIZE, SIZE) and hidden.mean() < 0.01


def projected(face, code, head):
    """Pixels (L, 2) of the 51 inner landmarks of one head in the virtual camera."""
    flame = Flame(face.head)
    pose = torch.cat([torch.zeros(1, 3), code[:, 153:]], 1)
    points = flame(code[:, :100], code[:, 100:150], pose).landmarks3d
    eyes = points[:, [36, 39, 42, 45]].mean(1, keepdim=True)
    points = (points - eyes) * camera_flip(points) * 1000 - torch.tensor([0, BELOW_EYES, 0])
    seen = points @ rotation_from_angles(head).transpose(1, 2) + torch.tensor([0, 0, 600.0])
    return (seen[0, 17:, :2] / seen[0, 17:, 2:] * 250 + 32).numpy()


@pytest.mark.parametrize("target", [(0.2, 0.0), (0.0, 0.25), (-0.15, -0.2)])
def test_what_lies_at_a_landmark_is_read_where_the_landmark_was(face, warp, target):
    code, before, after = codes(1), angles((0.05, -0.1)), angles(target)
    # A picture that says where it was read: x and y of its pixels.
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) + 0.5
    source = torch.from_numpy(np.stack([x, y]))[None]
    gaze = angles((0.0, 0.0))
    made, hidden = warp(source, code, (before, after), (gaze, gaze))
    was, now = (projected(face, code, head) for head in (before, after))
    at = np.floor(now).astype(int)
    inside = ((at >= 2) & (at < SIZE - 2)).all(1)
    assert inside.sum() > 40
    at, was, now = at[inside], was[inside], now[inside]
    found = made[0, :, at[:, 1], at[:, 0]].T.numpy() + (now - at - 0.5)
    apart = np.linalg.norm(found - was, axis=1)
    # Not for those that the head hides, or that its eyeballs carry.
    seen = hidden[0, 0, at[:, 1], at[:, 0]].numpy() == 0
    assert np.median(apart[seen]) < 0.15 and np.linalg.norm(now - was, axis=1).mean() > 0.5


def test_gaze_moves_what_eyeballs_show_and_nothing_else(warp):
    head, code, source = angles((0.0, 0.0)), codes(1), pictures(1)
    gazes = angles((0.0, -0.25)), angles((0.0, 0.25))
    made, _ = warp(source, code, (head, head), gazes)
    moved = (made - source).abs().amax(1)[0] > 2e-3
    eyes = warp.views(code, head).kind[0] > 1
    assert eyes.sum() > 8 and not moved[~eyes].any()
    assert moved[eyes].float().mean() > 0.5


def test_a_turn_hides_the_far_side(warp):
    straight, turned = angles((0.0, 0.0)), angles((0.0, 0.5))
    gaze = angles((0.0, 0.0))
    _, hidden = warp(pictures(1), codes(1), (straight, turned), (gaze, gaze))
    # Yaw > 0 faces image left: skin that comes into view is on the right.
    columns = (hidden[0, 0] * (warp.views(codes(1), turned).kind[0] > 0)).sum(0)
    assert columns[SIZE // 2 :].sum() > 4 * columns[: SIZE // 2].sum()


def test_views_do_not_depend_on_batches_and_are_drawn_once(face, warp):
    code, source = codes(3), pictures(3)
    heads = angles((0.0, 0.1), (0.1, 0.0), (0.0, 0.0)), angles((0.2, 0.1), (0.1, 0.3), (0.0, 0.2))
    gazes = heads[::-1]
    together = warp(source, code, heads, gazes)
    alone = MeshWarp(face.head, DEFAULT_PARTS, SIZE, kept_mb=0)
    for row in range(3):
        one = slice(row, row + 1)
        pair = [[value[one] for value in both] for both in (heads, gazes)]
        for made, whole in zip(alone(source[one], code[one], *pair), together, strict=True):
            torch.testing.assert_close(made, whole[one], atol=1e-5, rtol=0)
    drawn = []
    warp._drawn = lambda *given: drawn.append(given)
    again = warp(source, code, heads, gazes)
    assert not drawn and all(torch.equal(*both) for both in zip(again, together, strict=True))


def entry(**changes):
    given = {"class": "xunet", "preset": "tiny", "size_px": 32, "objective": {"warp": "mesh"}}
    return ModelSettings(**given | changes)


def batch(count=3):
    draw = torch.Generator().manual_seed(0)
    found = {"pair": torch.arange(count), "source_code": codes(count)}
    for side in ("source", "target"):
        found[side] = torch.rand(count, 3, 32, 32, generator=draw) * 2 - 1
        for name in ("gaze", "head"):
            found[f"{side}_{name}"] = 0.3 * torch.randn(count, 2, generator=draw)
    return found


def built(face, **changes):
    torch.manual_seed(0)
    made = build_redirector(entry(**changes).resolve(), SAMPLING)
    made.attach({"face": face})
    return made.eval()


@pytest.mark.parametrize("network", [{}, {"frames": 1}, {"code": "film"}, {"code": "stack"}])
def test_an_untrained_model_returns_the_source_over_its_head(face, network):
    made, data = built(face, network=network), batch()
    own = MeshWarp(face.head, DEFAULT_PARTS, 32)
    heads, gazes = (
        [data[f"{side}_{name}"] for side in ("source", "target")] for name in ("head", "gaze")
    )
    expected, hidden = own(data["source"], data["source_code"], heads, gazes)
    assert hidden.any()
    torch.testing.assert_close(
        made.redirect(data, seed=0), expected.clamp(-1, 1), atol=1e-4, rtol=0
    )


def test_the_network_sees_what_is_hidden(face, monkeypatch):
    made, data = built(face), batch()
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    with torch.no_grad():
        pictures = made.redirect(data, seed=0)
        loss = made.losses(data, "main", Progress(0, 0, torch.Generator().manual_seed(0)))["loss"]
        own = made._mesh[0]
        monkeypatch.setattr(made, "_mesh", [lambda *given: (own(*given)[0], own(*given)[1] * 0)])
        blind = made.redirect(data, seed=0)
    assert loss.isfinite() and not torch.equal(pictures, blind)


def test_a_source_without_a_code_has_the_mean_head(face):
    made, data = built(face), batch()
    mean = made.redirect(data | {"source_code": torch.zeros_like(data["source_code"])}, seed=0)
    unknown = data | {"source_codes_known": torch.zeros(3, dtype=torch.bool)}
    torch.testing.assert_close(made.redirect(unknown, seed=0), mean)


def test_what_is_declared():
    told = declared(entry())
    assert [one.kind for one in told.inputs] == ["codes"] and told.inputs[0].sides == ("source",)
    assert [(one.role, one.entry, one.always) for one in told.networks] == [("face", "deca", True)]
    assert "head of its own code" in told.condition and told.no_graph
    plain = declared(entry(objective={}))
    assert (
        plain.inputs == plain.networks == ()
        and "mask_channels" not in entry(objective={}).resolve()["network"]
    )
    assert not entry().resolve()["objective"]["flip"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"warp": "mesh", "flip": True}}, "objective.flip: .*objective.warp 'mesh'"),
        (
            {"objective": {"warp": "mesh", "base": "source"}},
            "objective.warp: .*found base 'source'",
        ),
        ({"deca": {"parts": ["shape", "pose"]}}, "deca.parts: lack expression"),
    ],
)
def test_options_that_do_not_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        entry(**changes).resolve()
