"""Fields: against the plain order of their work, parts of pictures, sweeps, cameras."""

import pytest
import torch
from benchmark_modules import benchmark

from regaze.angles import rotation_from_angles
from regaze.redirectors.gazenerf import march, rays
from regaze.redirectors.gazenerf.field import VARIANTS, HeadField
from regaze.redirectors.gazenerf.radiance import Kept, Trunk, active
from regaze.redirectors.gazenerf.rays import Window

SIZES = {"size_px": 32, "side": 8, "channels": 48, "hidden": 16, "samples": 8, "shape": 5}
SIZES |= {"appearance": 4, "gaze_dim": 4}


@pytest.fixture(scope="module")
def plain():
    """The plain order, as the benchmark has it."""
    return benchmark("gazenerf")


def built(variant="gazenerf", **options):
    torch.manual_seed(0)
    field = HeadField(variant, **{**SIZES, **options})
    torch.nn.init.normal_(field.neural_render.bg_featmap)
    return field.double()


def camera(count=2, head=0.2):
    torch.manual_seed(1)
    turned = (head * torch.randn(count, 2)).double()
    return rays.patch_camera(turned, SIZES["side"], focal=500 / 128, distance=600.0)


def codes(count=2):
    torch.manual_seed(2)
    return torch.randn(count, 5).double(), torch.randn(count, 4).double()


def gazes(count=2):
    torch.manual_seed(3)
    return (0.4 * torch.randn(count, 2)).double()


@pytest.mark.parametrize("recompute", [False, True])
def test_pictures_and_gradients_are_those_of_the_plain_order(plain, recompute, monkeypatch):
    # Several chunks of rays.
    monkeypatch.setattr("regaze.redirectors.gazenerf.field.CHUNK", 100)
    monkeypatch.setattr("regaze.redirectors.gazenerf.march.KEPT", 1600)
    field = built(recompute=recompute)
    given = camera(), codes(), gazes()
    plain.fill(field, 0.3, *given)
    draws = torch.rand(2, 64, 9).double()
    parameters = list(field.parameters())
    found = []
    for pictures in (plain.plain_step, plain.step_of):
        made = pictures(field, *given, draws)
        loss = sum((one - 0.3).square().mean() for one in made.values())
        found.append((made, torch.autograd.grad(loss, parameters)))
    for name, one in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], one, rtol=0, atol=1e-9)
    for (name, _), one, other in zip(
        field.named_parameters(), found[0][1], found[1][1], strict=True
    ):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-12, msg=name)


def test_slopes_are_computed_of_samples_with_a_density_alone(plain, monkeypatch):
    field, given = built(), (camera(), codes(), gazes())
    plain.fill(field, 0.25, *given)
    seen = {"shaded": [], "known": []}

    def counted(values, *rest):
        kept = rest[2] if len(rest) > 2 else None
        if values.shape[1] == field.hidden and kept is not None:
            seen["known" if kept.reading else "shaded"].append(len(values))
        return active(values, *rest)

    monkeypatch.setattr("regaze.redirectors.gazenerf.radiance.active", counted)
    field(field.prepare(given[0], *given[1]), given[2])
    # Two streams of 1024 samples through the seven layers after the first, once.
    assert sum(seen["shaded"]) == 7 * 2 * 1024
    assert 0.15 < sum(seen["known"]) / sum(seen["shaded"]) < 0.35


def test_counts_of_samples_are_alike_where_products_are_prepared_for_them(plain, monkeypatch):
    field, given = built(), (camera(), codes(), gazes())
    plain.fill(field, 0.27, *given)
    counts, own = [], march._together

    def counted(part):
        made = own(part)
        counts.append(len(made[0]))
        return made

    monkeypatch.setattr(march, "_together", counted)
    parameters, found = list(field.parameters()), []
    for count in (1, 64):
        monkeypatch.setattr(march, "ALIKE", count)
        monkeypatch.setattr(march, "_prepares", lambda values: True)
        made = field(field.prepare(given[0], *given[1]), given[2])["image"]
        found.append((made, *torch.autograd.grad(made.square().mean(), parameters)))
    assert any(one % 64 for one in counts[:2]) and not any(one % 64 for one in counts[2:])
    assert all(0 <= more - few < 64 for few, more in zip(counts[:2], counts[2:], strict=True))
    for few, more in zip(*found, strict=True):
        torch.testing.assert_close(more, few, rtol=1e-9, atol=1e-14)
    monkeypatch.undo()
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        assert march._prepares(torch.zeros(1, dtype=dtype)) == (dtype == torch.bfloat16)


@pytest.mark.parametrize("variant", VARIANTS)
def test_slopes_are_those_without_what_was_kept(variant, monkeypatch):
    field = built(variant, directions=True, gaze_share=0.5)
    for mlp in field.streams.values():
        torch.nn.init.constant_(mlp.density_module.bias, 0.02)
    eyes, found = torch.rand(2, 1, 32, 32).double(), []
    for known in (True, False):
        if not known:
            monkeypatch.setattr(
                Kept, "reading", property(lambda _: False, lambda *_: None), raising=False
            )
        told = [one.clone().requires_grad_() for one in (*codes(), gazes())]
        heads = field.prepare(camera(), *told[:2])
        made = field(heads, told[2], eyes=eyes)["image"]
        learnt = [one for one in field.parameters() if one.requires_grad]
        used = [*learnt, *(told[:2] if variant == "headnerf" else told)]
        slopes = torch.autograd.grad(made.square().mean(), used, allow_unused=True)
        found.append((made, slopes))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-12)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("near_points", [True, False])
def test_a_sweep_is_that_of_the_plain_order_and_walks_the_trunk_once(
    plain, near_points, monkeypatch
):
    field = built("headnerf_gaze", near_points=near_points).requires_grad_(False)
    sweep, eyes = gazes(3), torch.rand(1, 1, 32, 32).double().round()
    given = camera(1), codes(1)
    walked = []
    onwards = Trunk.onwards
    monkeypatch.setattr(
        Trunk, "onwards", lambda self, *given: walked.append(self.prefix) or onwards(self, *given)
    )
    with torch.no_grad():
        wanted = plain.plain_sweep(field, *given, sweep, eyes) if near_points else None
        walked.clear()
        found = plain.sweep_of(field, *given, sweep, eyes)
        single = field(field.prepare(*given[:1], *given[1]), sweep[1:2], eyes=eyes)["image"]
    assert walked == ["", "Gaze_", "Gaze_", "Gaze_", "", "Gaze_"]
    torch.testing.assert_close(found[1:2], single, rtol=0, atol=1e-12)
    if near_points:
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_part_of_a_picture_is_that_of_the_whole_but_for_its_edge(variant):
    field, given, border = built(variant), (camera(), *codes()), 2
    eyes, window, scale = torch.rand(2, 1, 32, 32).double(), Window(1, 2, 6), 4
    whole = field(field.prepare(*given), gazes(), eyes=eyes)["image"]
    prepared = field.prepare(*given, window=window)
    part = field(prepared, gazes(), eyes=eyes, window=window)["image"]
    assert part.shape == (2, 3, 24, 24)
    inner = Window(border * scale, border * scale, 2 * scale).cut(part)
    same = Window((1 + border) * scale, (2 + border) * scale, 2 * scale).cut(whole)
    torch.testing.assert_close(inner, same, rtol=0, atol=1e-9)
    assert float((Window(0, 0, 4).cut(part) - Window(4, 8, 4).cut(whole)).abs().max()) > 1e-6


def test_further_samples_are_where_the_density_is():
    depths = torch.linspace(0, 10, 11)[None, None]
    weights = torch.zeros(1, 1, 10)
    weights[..., 6] = 1.0
    found = rays.finer(depths, weights, torch.linspace(0, 1, 9))[0, 0]
    assert len(found) == 10 + 9 and bool((found.diff() >= 0).all())
    assert int(((found >= 5.4) & (found <= 6.6)).sum()) >= 8
    field, given = built(fine=6), (camera(), *codes())
    made = field(field.prepare(*given), gazes())["image"]
    with torch.no_grad():
        again = field(field.prepare(*given), gazes())["image"]
    torch.testing.assert_close(made, again, rtol=0, atol=1e-9)
    # Where they are is fixed; how they get there is the camera's.
    centre = given[0].centre.clone().requires_grad_()
    moved = rays.Camera(given[0].rotation, centre, given[0].inverse)
    field(field.prepare(moved, *given[1:]), gazes())["image"].sum().backward()
    assert bool(centre.grad.all())
    other = built()(built().prepare(*given), gazes())["image"]
    assert float((made - other).abs().max()) > 1e-6


def test_a_head_looks_at_the_camera_that_its_label_says():
    seen = rays.patch_camera(torch.zeros(1, 2), 8, focal=4.0, distance=600.0)
    torch.testing.assert_close(seen.rotation[0], torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    torch.testing.assert_close(seen.centre[0, :, 0], torch.tensor([0.0, 0.0, 8.0]))
    head = torch.tensor([[0.3, -0.2]])
    turned = rays.patch_camera(head, 8, focal=4.0, distance=600.0)
    # The head's centre is 600 mm in front of the camera, wherever it looks.
    in_camera = turned.rotation[0].T @ -turned.centre[0, :, 0]
    torch.testing.assert_close(in_camera, torch.tensor([0.0, 0.0, 8.0]), rtol=0, atol=1e-5)
    # Out of its face is the world's z, which the camera sees as the label's direction.
    out = turned.rotation[0].T @ torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(out, -rotation_from_angles(head)[0, :, 2], rtol=0, atol=1e-6)
    middle = torch.linalg.inv(turned.inverse[0]) @ in_camera
    torch.testing.assert_close(middle[:2] / middle[2], torch.tensor([4.0, 4.0]))


def test_a_camera_behind_the_head_is_refused():
    away = rays.patch_camera(torch.tensor([[0.0, 0.1], [0.0, 2.5]]), 8, focal=4.0, distance=600.0)
    with pytest.raises(ValueError, match="camera 1: expected one that looks at the head"):
        rays.ray_directions(away, rays.pixel_grid(8))


def test_gazes_of_the_camera_in_the_frame_of_the_head():
    head = torch.tensor([[0.2, -0.3], [0.0, 0.0]])
    # Straight out of the face, and up and to the image's left out of a face to the camera.
    gaze = torch.tensor([[0.2, -0.3], [0.4, 0.1]])
    wanted = torch.tensor([[0.0, 0.0], [-0.4, 0.1]])
    torch.testing.assert_close(rays.gaze_in_head(gaze, head), wanted, rtol=0, atol=1e-6)
