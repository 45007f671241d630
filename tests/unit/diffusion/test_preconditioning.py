import pytest
import torch

from regaze.diffusion.guidance import guided
from regaze.diffusion.losses import diffused, p_losses
from regaze.diffusion.preconditioning import Preconditioning
from regaze.diffusion.schedules import alpha_sigma, logsnr_from_sigma

SIGMA = torch.tensor([0.05, 0.7, 12.0])


def images(seed=0):
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["eps", "v", "edm", "flow", "x0"])
@pytest.mark.parametrize("anchored", [False, True])
def test_a_perfect_network_gives_the_image_back(kind, anchored):
    parameterisation = Preconditioning(kind, 0.4)
    clean, noise = images(0), images(1)
    anchor = images(2) if anchored else None
    z = clean + SIGMA.reshape(-1, 1, 1, 1) * noise
    output = parameterisation.target(clean, z, SIGMA, anchor)
    found = parameterisation.denoised(output, z, SIGMA, anchor)
    torch.testing.assert_close(found, clean, atol=1e-4, rtol=1e-4)


def test_eps_and_v_are_what_their_names_say():
    clean, noise = images(0), images(1)
    z = clean + SIGMA.reshape(-1, 1, 1, 1) * noise
    alpha, sigma = (a.reshape(-1, 1, 1, 1) for a in alpha_sigma(logsnr_from_sigma(SIGMA)))
    eps = Preconditioning("eps")
    torch.testing.assert_close(eps.target(clean, z, SIGMA), noise, atol=1e-4, rtol=1e-4)
    expected = diffused(clean, noise, logsnr_from_sigma(SIGMA))
    torch.testing.assert_close(eps.network_input(z, SIGMA), expected, atol=1e-5, rtol=1e-5)
    v = Preconditioning("v").target(clean, z, SIGMA)
    torch.testing.assert_close(v, alpha * noise - sigma * clean, atol=1e-5, rtol=1e-4)


def test_flow_is_the_straight_path_from_image_to_noise():
    clean, noise, t = images(0), images(1), torch.tensor([0.1, 0.5, 0.9])
    share = t.reshape(-1, 1, 1, 1)
    sigma, flow = t / (1 - t), Preconditioning("flow")
    z = clean + sigma.reshape(-1, 1, 1, 1) * noise
    torch.testing.assert_close(
        flow.network_input(z, sigma), (1 - share) * clean + share * noise, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(flow.target(clean, z, sigma), noise - clean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(flow.logsnr(sigma), 2 * torch.log((1 - t) / t))


@pytest.mark.parametrize("kind", ["eps", "v", "edm", "flow"])
def test_min_snr_bounds_the_weight_of_the_image_error(kind):
    made = Preconditioning(kind, 0.4)
    found = made.image_weight(SIGMA) * made.loss_weight(SIGMA, "min_snr")
    assert found.tolist() == pytest.approx([5.0, 0.7**-2, 12.0**-2])
    v = Preconditioning("v")
    snr = SIGMA**-2
    expected = snr.clamp(max=5) / (snr + 1)
    torch.testing.assert_close(v.loss_weight(SIGMA, "min_snr"), expected)
    assert made.loss_weight(SIGMA).tolist() == [1, 1, 1]


def test_edm_inputs_and_targets_have_unit_variance():
    generator = torch.Generator().manual_seed(0)
    clean = 0.4 * torch.randn(3, 40_000, generator=generator)
    z = clean + SIGMA[:, None] * torch.randn(3, 40_000, generator=generator)
    edm = Preconditioning("edm", 0.4)
    assert edm.network_input(z, SIGMA).std(1).tolist() == pytest.approx([1] * 3, rel=0.02)
    assert edm.target(clean, z, SIGMA).std(1).tolist() == pytest.approx([1] * 3, rel=0.02)


def test_weights_convert_between_image_and_output_error():
    for kind in ("eps", "v", "edm", "flow", "x0"):
        parameterisation = Preconditioning(kind, 0.4)
        z, clean = images(0), images(1)
        output = images(3)
        denoised = parameterisation.denoised(output, z, SIGMA)
        on_image = (denoised - clean).square().flatten(1).mean(1)
        on_output = (output - parameterisation.target(clean, z, SIGMA)).square().flatten(1).mean(1)
        weight = parameterisation.image_weight(SIGMA)
        torch.testing.assert_close(weight * on_image, on_output, atol=1e-5, rtol=1e-4)


def test_zero_output_of_x0_is_the_anchor():
    anchor = images(2)
    found = Preconditioning("x0", 0.16).denoised(torch.zeros(3, 2, 4, 4), images(), SIGMA, anchor)
    assert torch.equal(found, anchor)


def test_guidance():
    a, b = images(0), images(1)
    assert torch.equal(guided(a, b, 0.0), a)
    torch.testing.assert_close(guided(a, b, -1.0), b)
    per_image = guided(a, b, torch.tensor([0.0, -1.0, 2.0]))
    torch.testing.assert_close(per_image[2], 3 * a[2] - 2 * b[2])


def test_noise_loss_of_a_silent_network_is_the_noise_variance():
    generator = torch.Generator().manual_seed(0)
    shape = (4, 3, 16, 16)
    source, target, noise, other = (torch.randn(shape, generator=generator) for _ in range(4))
    seen = {}

    def network(batch, keep):
        seen.update(batch, keep=keep)
        return torch.zeros_like(batch["z"])

    uniform = torch.tensor([0.05, 0.1, 0.11, 0.9])
    loss = p_losses(network, {"x": source}, target, torch.rand(4), noise, uniform, other)
    assert float(loss) == pytest.approx(float(noise.square().mean()))
    assert seen["keep"].tolist() == [False, False, True, True]
    assert torch.equal(seen["x"][:2], other[:2]) and torch.equal(seen["x"][2:], source[2:])
    assert seen["logsnr"][:, 0].tolist() == pytest.approx([20.0] * 4)
