"""Eyes that are moved: what of the face stays, where pixels are from, what is refused."""

import pytest
import torch
from pydantic import ValidationError

from regaze.angles import angles_from_vector, vector_from_angles
from regaze.redirectors.base import Moving, build_redirector
from regaze.redirectors.declaration import declared
from regaze.redirectors.eyewarp.moving import moved, window
from regaze.redirectors.eyewarp.settings import ModelSettings
from regaze.redirectors.facts import facts_of
from regaze.training.phases import Progress

REGION = (0, 4, 32, 20)


def settings(**changes):
    given = {"class": "eyewarp", "preset": "tiny", "size_px": 32, "region": REGION}
    return ModelSettings(**given | changes)


def batch(count=3, size=32):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((2, count, 3, size, size), generator=rng) * 2 - 1
    angles = torch.rand((4, count, 2), generator=rng) * 0.6 - 0.3
    names = ("source_gaze", "target_gaze", "source_head", "target_head")
    return {"source": images[0], "target": images[1], **dict(zip(names, angles, strict=True))}


def trained_a_little(**changes):
    torch.manual_seed(0)
    made = build_redirector(settings(**changes).resolve()).eval()
    for parameter in made.net.parameters():
        # Blocks end in zeros at first, where nothing that is asked for would tell.
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def redirected(made, data):
    with torch.no_grad():
        return made.moves(made.invert(data, seed=0), data, seed=0)


def test_an_untrained_network_changes_nothing():
    made, data = build_redirector(settings().resolve()).eval(), batch()
    moves = redirected(made, data)
    assert isinstance(made, Moving)
    assert torch.allclose(moves.pictures, data["source"], atol=1e-5)
    assert not moves.flow.any() and torch.allclose(moves.share, torch.ones(()))


def test_the_face_outside_of_the_strip_stays():
    data = batch()
    moves = redirected(trained_a_little(), data)
    left, top, right, bottom = REGION
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    change = (moves.pictures - data["source"]).abs().amax((0, 1))
    assert change[outside].max() == 0 and change[~outside].max() > 0.05
    assert moves.flow.abs().amax((0, 1))[outside].max() == 0
    # And the strip begins softly.
    assert change[top].max() < 0.3 * change.max()


def test_pixels_are_taken_from_where_the_flow_points():
    picture = torch.arange(48.0).reshape(1, 1, 6, 8)
    flow = torch.zeros(1, 2, 6, 8)
    assert torch.allclose(moved(picture, flow), picture, atol=1e-4)
    flow[:, 0], flow[:, 1] = 1.0, 2.0
    found = moved(picture, flow)
    assert torch.allclose(found[..., :4, :7], picture[..., 2:, 1:], atol=1e-4)
    assert torch.allclose(found[..., 4:, :7], picture[..., 5:6, 1:].expand(1, 1, 2, 7), atol=1e-4)


def test_the_rim_is_soft():
    weights = window(16, 32, 6)[0, 0]
    assert weights[0].max() < 0.05 and weights[8, 16] == 1
    assert (weights == weights.flip(0)).all() and (weights == weights.flip(1)).all()


def test_the_strip_learns_to_follow_the_target():
    torch.manual_seed(0)
    made, data = build_redirector(settings().resolve()), batch()
    data["target"] = data["source"].roll(1, -1)
    optimiser = torch.optim.Adam(made.parameters(), lr=3e-3)
    values = []
    for step in range(40):
        loss = made.losses(data, "main", Progress(step, 0, torch.Generator()))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert min(values[-5:]) < 0.8 * values[0]


def beside(angles):
    """Directions by which all irises lie as much farther to the left and higher."""
    there = vector_from_angles(angles)[:, :2] + 0.1
    ahead = (1 - (there**2).sum(1, keepdim=True)).sqrt()
    return angles_from_vector(torch.cat([there, ahead], 1))


def test_pixels_go_along_with_irises_as_far_as_they_are_told():
    made, data = build_redirector(settings().resolve()).eval(), batch()
    with torch.no_grad():
        made.net.last.bias.unflatten(0, (8, -1))[6:] = torch.tensor([1.0, 0.5])[:, None]
    flow = redirected(made, data).flow[..., 12, 16]
    travel = vector_from_angles(data["target_gaze"]) - vector_from_angles(data["source_gaze"])
    wanted = 0.068 * 32 * travel[:, :2] * torch.tensor([1.0, 0.5])
    assert torch.allclose(flow, wanted, atol=1e-5)


@pytest.mark.parametrize("condition", ["both", "difference"])
def test_changes_of_gaze_are_multiplied_by_the_gain_when_pictures_are_made(condition):
    plain = trained_a_little(objective={"condition": condition})
    more = trained_a_little(objective={"condition": condition, "gain": [2.0, 1.5]})
    data = batch()
    was, there = (vector_from_angles(data[f"{side}_gaze"]) for side in ("source", "target"))
    across = was[:, :2] + (there - was)[:, :2] * torch.tensor([1.5, 2.0])
    ahead = (1 - (across**2).sum(1, keepdim=True)).sqrt()
    farther = {**data, "target_gaze": angles_from_vector(torch.cat([across, ahead], 1))}
    wanted, found = redirected(plain, farther).flow, redirected(more, data).flow
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found, redirected(plain, data).flow, atol=1e-3)
    at = Progress(0, 0, torch.Generator())
    losses = [float(one.train().losses(data, "main", at)["loss"].detach()) for one in (plain, more)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "condition, counts",
    [("both", (True, True)), ("difference", (True, True)), ("target", (False, True))],
)
def test_condition_on_directions(condition, counts):
    made, data = trained_a_little(objective={"condition": condition}), batch()
    first = redirected(made, data).pictures
    for name, counted in zip(("source_gaze", "target_gaze"), counts, strict=True):
        other = redirected(made, {**data, name: data[name] + 0.2}).pictures
        assert (not torch.allclose(first, other, atol=1e-5)) == counted
    both = {name: beside(data[name]) for name in ("source_gaze", "target_gaze")}
    same = torch.allclose(redirected(made, {**data, **both}).pictures, first, atol=1e-5)
    assert same == (condition == "difference")


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"region": (0, 4, 40, 20)}, "region: expected a strip within 32 x 32"),
        ({"region": (0, 20, 32, 4)}, "region: expected a strip within 32 x 32"),
        ({"region": (0, 4, 30, 20)}, r"region: 30 x 16 pixels are not divisible by 4"),
        ({"network": {"ch": 8, "ch_mult": (1, 1.5)}}, r"network\.ch: 8 x 1\.5"),
    ],
)
def test_strips_that_cannot_be_are_refused(changes, fault):
    with pytest.raises((ValidationError, ValueError), match=fault):
        settings(**changes).resolve()


def test_it_is_declared_to_move_eyes_alone():
    assert declared(settings()).factors == ("gaze",)
    assert facts_of("eyewarp").works == ("deepwarp",)
