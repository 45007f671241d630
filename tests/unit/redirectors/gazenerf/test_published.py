"""Published weights and codes: the field that a file is of, and heads drawn with it."""

import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from regaze.cli import app
from regaze.face3d import nl3dmm_fit
from regaze.face3d.nl3dmm_fit import HeadFit, write_fit
from regaze.redirectors.gazenerf import cameras, published
from regaze.redirectors.gazenerf.field import VARIANTS, HeadField

SHAPE, APPEARANCE = published.NL3DMM_SHAPE, 127
SIZES = {"size_px": 16, "side": 4, "channels": 48, "hidden": 8, "samples": 4}
SIZES |= {"shape": SHAPE, "appearance": APPEARANCE}


def weights(path, variant="headnerf", **changes):
    torch.manual_seed(0)
    field = HeadField(variant, **SIZES | {"gaze_dim": 4} | changes)
    for one in field.parameters():
        # Neither dead nor opaque: what is drawn depends on points and codes.
        spread = 1.5 / one[0].numel() ** 0.5 if one.dim() > 1 else 0.1
        torch.nn.init.normal_(one, std=spread)
    for name, one in field.named_parameters():
        if name.endswith("density_module.bias"):
            torch.nn.init.constant_(one, 0.5)
    para = {"featmap_size": 4, "featmap_nc": 48, "pred_img_size": 16, "num_sample_coarse": 4}
    torch.save({"para": para, "net": field.state_dict()}, path)
    return field


def codes(path, spread=1.0, **changes):
    torch.manual_seed(int(10 * spread))
    code = {"shape_code": torch.randn(1, SHAPE), "appea_code": spread * torch.randn(1, APPEARANCE)}
    torch.save({"code": {"bg_code": None, **code, **changes}}, path)
    return path


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("changes", [{}, {"directions": True, "near_points": False}])
def test_the_field_is_told_by_the_weights(tmp_path, variant, changes):
    if variant != "headnerf_gaze":
        changes = {key: one for key, one in changes.items() if key != "near_points"}
    field = weights(tmp_path / "net.pth", variant, **changes)
    head = published.read_codes(codes(tmp_path / "LatentCodes_a.pth"))
    found = published.open_field(tmp_path / "net.pth", head)
    assert found.variant == variant and found.count == 4
    for key, value in field.state_dict().items():
        assert torch.equal(found.state_dict()[key], value)
    camera = cameras.frontal_camera(4)
    one = next(published.pictures(found, head, camera, (0.1, -0.2)))
    again = next(published.pictures(field.eval(), head, camera, (0.1, -0.2)))
    assert one.shape == (16, 16, 3) and one.dtype == np.uint8 and (one == again).all()


def fit_of(path):
    """A fit whose camera is the published one, of a photo of 512 px."""
    camera = cameras.frontal_camera(32)
    back, away = camera.rotation[0], camera.centre[0, :, 0]
    matrix = torch.linalg.inv(camera.inverse[0]) * torch.tensor([16.0, 16.0, 1.0])[:, None]
    write_fit(
        path,
        HeadFit(
            torch.zeros(306), back.T, -back.T @ away, matrix, back, away, torch.linalg.inv(matrix)
        ),
    )
    return path


def test_a_fit_is_seen_by_its_own_camera(tmp_path):
    head = published.read_codes(fit_of(tmp_path / "a_nl3dmm.pkl"))
    assert head.shape.shape == (1, SHAPE) and head.appearance.shape == (1, APPEARANCE)
    found, wanted = head.seen(32, 512), cameras.frontal_camera(32)
    for name, value in vars(wanted).items():
        assert torch.allclose(getattr(found, name), value, atol=1e-5), name
    assert set(nl3dmm_fit.MATRICES) < set(vars(published.read_fit(tmp_path / "a_nl3dmm.pkl")))


def test_commands(tmp_path):
    weights(tmp_path / "net.pth")
    first = codes(tmp_path / "LatentCodes_a.pth")
    second = codes(tmp_path / "LatentCodes_b.pth", 3.0)

    def run(out, *more):
        told = ["head", "draw", str(first), str(tmp_path / out)]
        return CliRunner().invoke(app, [*told, "--model", str(tmp_path / "net.pth"), *more])

    assert run("front.png").exit_code == 0
    assert run("turned.png", "--turn", "0", "20", "0").exit_code == 0
    assert run("same.png", "--take", f"texture@0={second}").exit_code == 0
    assert run("mixed.png", "--take", f"texture={second}").exit_code == 0
    no = run("no.png", "--take", f"nose={second}")
    assert "expected one of shape, expression, texture, light, found 'nose'" in str(no.exception)
    no = run("no.png", "--take", "texture")
    assert no.exit_code == 1 and "expected PART=FILE" in str(no.exception)
    done = run("round.gif", "--views", "3")
    assert done.exit_code == 0, done.output
    shown = {name: np.asarray(Image.open(tmp_path / f"{name}.png")) for name in
             ("front", "turned", "same", "mixed")}  # fmt: skip
    assert (shown["front"] == shown["same"]).all()
    assert (shown["front"] != shown["turned"]).any() and (shown["front"] != shown["mixed"]).any()
    assert Image.open(tmp_path / "round.gif").n_frames >= 2
    away = run("away.png", "--turn", "0", "100", "0")
    assert away.exit_code == 1 and "expected one that looks at the head" in str(away.exception)


@pytest.mark.parametrize("sizes", [(100, 79, 100, 27), (100, 50, 50, 27)])
def test_each_of_the_four_parts_is_mixed_by_itself(sizes):
    shape, appearance = sum(sizes[:2]), sum(sizes[2:])
    first = published.HeadCodes(torch.zeros(1, shape), torch.zeros(1, appearance))
    second = published.HeadCodes(torch.ones(1, shape), torch.ones(1, appearance))
    assert tuple(published.parts_of(first).values()) == sizes
    for number, part in enumerate(published.parts_of(first)):
        made = published.with_part(first, second, part, 0.25)
        found = torch.cat([made.shape, made.appearance], 1).split(sizes, 1)
        assert [float(one.mean()) for one in found] == [0.25 * (n == number) for n in range(4)]
    other = published.HeadCodes(torch.zeros(1, 5), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="179 and 127 or 150 and 77 numbers, .* found 5 and 2"):
        published.parts_of(other)
    lengths = {(100, 79, 100, 27): (150, 77, 306, 227), (100, 50, 50, 27): (179, 127, 227, 306)}
    *theirs, own, found = lengths[sizes]
    other = published.HeadCodes(*(torch.zeros(1, number) for number in theirs))
    with pytest.raises(ValueError, match=f"expected codes of {own} numbers, found {found}"):
        published.with_part(first, other, "shape")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"codes": 1}, r"expected a file of codes, with code, found \['codes'\]"),
        ({"code": {}}, r"shape_code: expected numbers \(1, n\), found NoneType"),
        (
            {"code": {"shape_code": torch.ones(1, 3), "appea_code": torch.full((1, 2), math.nan)}},
            "appea_code: expected finite numbers",
        ),
    ],
)
def test_codes_that_cannot_be_used(tmp_path, content, message):
    torch.save(content, tmp_path / "LatentCodes_a.pth")
    with pytest.raises(ValueError, match=f"LatentCodes_a.pth: {message}"):
        published.read_codes(tmp_path / "LatentCodes_a.pth")


def test_other_codes_than_a_field_was_taught(tmp_path):
    weights(tmp_path / "net.pth", appearance=50)
    head = published.read_codes(codes(tmp_path / "LatentCodes_a.pth"))
    with pytest.raises(ValueError, match="expected codes of 179 and 50 numbers, found 179 and 127"):
        published.open_field(tmp_path / "net.pth", head)
    torch.save({"net": {"a": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: expected the weights of a field, found no"):
        published.open_field(tmp_path / "other.pth", head)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="b.pkl: "):
        published.read_codes(tmp_path / "b.pkl")
