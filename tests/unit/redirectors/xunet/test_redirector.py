"""The X-UNet as a redirector: its start, its independence of batches, every option trains."""

import numpy as np
import pytest
import torch
from combinations import each_of

from regaze.redirectors.base import build_redirector
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.redirectors.xunet.warp import warp_head
from regaze.training.phases import Progress

SAMPLING = {
    "sampler": "dpmpp_2m", "steps": 3, "sigma_min": 0.05, "sigma_max": 20.0, "guidance": 0.0,
}  # fmt: skip


SIZE = 16


def config(**changes):
    entry = {"class": "xunet", "preset": "tiny", "size_px": SIZE}
    return ModelSettings(**entry | changes).resolve()


def batch(count=4, size=SIZE):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((2, count, 3, size, size), generator=rng) * 2 - 1
    angles = torch.rand((4, count, 2), generator=rng) * 0.6 - 0.3
    return {
        "source": images[0],
        "target": images[1],
        "pair": torch.arange(count) + 10,
        "source_gaze": angles[0],
        "target_gaze": angles[1],
        "source_head": angles[2],
        "target_head": angles[3],
    }


def woken(redirector):
    """Give zero-initialised layers weights, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in redirector.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05, generator=generator)
    return redirector.eval()


def losses(redirector, data, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return redirector.losses(data, "main", Progress(0, 0, generator))["loss"]


def test_untrained_residual_model_returns_the_warped_source():
    torch.manual_seed(0)
    data = batch()
    expected = warp_head(data["source"], data["source_head"], data["target_head"])
    for options in ({}, {"parameterization": "regression"}):
        redirector = build_redirector(config(objective=options), SAMPLING).eval()
        with torch.no_grad():
            made = redirector.redirect(data, seed=0)
        torch.testing.assert_close(made, expected.clamp(-1, 1), atol=1e-5, rtol=0)


def test_untrained_residual_model_may_start_from_the_source_itself():
    data = batch()
    redirector = build_redirector(config(objective={"base": "source"}), SAMPLING).eval()
    with torch.no_grad():
        made = redirector.redirect(data, seed=0)
    torch.testing.assert_close(made, data["source"], atol=1e-5, rtol=0)


def test_a_rule_of_weights_multiplies_the_outputs_units():
    options = {"parameterization": "v", "noise": "uniform_t", "base": "none"}
    plain, bounded = (
        build_redirector(config(objective=options | {"loss_weight": rule}), SAMPLING).objective
        for rule in ("uniform", "min_snr")
    )
    sigma = torch.tensor([0.1, 0.5, 10.0])
    assert bounded.image_weight(sigma).tolist() == pytest.approx([5.0, 4.0, 0.01])
    assert plain.image_weight(sigma).tolist() == pytest.approx([101.0, 5.0, 1.01])


PARAMETERISATIONS = [
    {},
    {"parameterization": "regression"},
    {"parameterization": "edm", "base": "none", "lnsigma_mean": -1.2, "lnsigma_std": 1.2},
    {"parameterization": "v", "noise": "uniform_t", "base": "none"},
    {"parameterization": "eps", "noise": "uniform_t", "base": "none", "eye_weight": 0.0},
]


def told(value):
    return str(value.get("parameterization", "residual_x0") if isinstance(value, dict) else value)


@pytest.mark.parametrize(("objective", "frames"), each_of(PARAMETERISATIONS, (1, 2), name=told))
def test_every_parameterisation_trains_and_samples(frames, objective):
    torch.manual_seed(0)
    options = config(network={"frames": frames}, objective=objective)
    redirector = build_redirector(options, SAMPLING)
    data = batch()
    optimiser = torch.optim.Adam(redirector.network.parameters(), 3e-3)
    before = float(losses(redirector, data).detach())
    for _ in range(8):
        optimiser.zero_grad()
        losses(redirector, data).backward()
        optimiser.step()
    assert float(losses(redirector, data).detach()) < before
    with torch.no_grad():
        made = redirector.eval().redirect(data, seed=0)
    assert made.shape == data["source"].shape and made.abs().max() <= 1


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun", "euler", "ancestral"])
def test_pictures_do_not_depend_on_batch_or_order(sampler):
    torch.manual_seed(0)
    sampling = SAMPLING | {"sampler": sampler, "guidance": 0.5}
    redirector = woken(build_redirector(config(), sampling))
    data = batch()
    with torch.no_grad():
        whole = redirector.redirect(data, seed=3)
        order = torch.tensor([2, 0])
        part = redirector.redirect({k: v[order] for k, v in data.items()}, seed=3)
        other = redirector.redirect(data, seed=4)
    torch.testing.assert_close(part, whole[order], atol=2e-4, rtol=0)
    assert (other - whole).abs().max() > 1e-3


def test_eye_weight_counts_the_eyes_only():
    torch.manual_seed(0)
    redirector = build_redirector(config(objective={"eye_weight": 9.0}), SAMPLING)
    objective, target = redirector.objective, torch.zeros(1, 3, 64, 64)
    inside, outside = target.clone(), target.clone()
    inside[..., 20, 20], outside[..., 50, 50] = 1.0, 1.0
    sigma = torch.ones(1)
    ratio = objective.loss(inside, target, sigma) / objective.loss(outside, target, sigma)
    assert float(ratio) == pytest.approx(10)


def test_guidance_needs_a_model_trained_for_it():
    with pytest.raises(ValueError, match="objective.drop_prob above 0"):
        build_redirector(config(objective={"drop_prob": 0.0}), SAMPLING | {"guidance": 1.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameterization": "v"}, "objective.base: 'warp' does not go with parameterization 'v'"),
        ({"loss_weight": "min_snr"}, "objective.loss_weight: 'min_snr' is for eps, v, edm and"),
    ],
)
def test_objectives_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(objective=changes)


def test_a_position_map_of_other_channels_is_told_and_not_resized():
    redirector = build_redirector(config(), SAMPLING)
    name = "conditioningprocessor.pos_emb"
    state = dict(redirector.network.state_dict())
    state[name] = state[name].new_zeros(7, 16, 16)
    with pytest.raises(ValueError, match=rf"1 keys .*{name} expected .* found \(7, 16, 16\)"):
        redirector.load_start(state)


def test_warp_is_the_identity_for_equal_poses_and_moves_the_face_for_others():
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    zero, turned = torch.zeros(1, 2), torch.tensor([[0.0, 0.3]])
    torch.testing.assert_close(warp_head(ramp, turned, turned), ramp, atol=1e-7, rtol=0)
    warped = warp_head(ramp, zero, turned)
    # Yaw > 0 faces image left, so the middle of the face moves left: what was seen at the centre
    # now lies left of it, and the centre shows what was right of it.
    assert float(warped[0, 0, 32, 32]) > float(ramp[0, 0, 32, 32]) + 0.05
    up = warp_head(ramp.transpose(2, 3), zero, torch.tensor([[0.3, 0.0]]))
    # Pitch > 0 faces up: the centre shows what was below it.
    assert float(up[0, 0, 32, 32]) > 0.05
    corner = warped[0, 0, 0, 0]
    np.testing.assert_allclose(corner, ramp[0, 0, 0, 0])
