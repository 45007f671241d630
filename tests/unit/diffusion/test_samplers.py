import pytest
import torch

from regaze.diffusion.noise import image_noise
from regaze.diffusion.samplers import SAMPLERS, ancestral, asked_levels, evaluations, sample
from regaze.diffusion.schedules import cosine_grid, karras_sigmas


def gaussian(z, sigma, mean=0.3, std=0.5):
    """Exact denoiser of N(mean, std**2) data."""
    weight = (std**2 / (std**2 + sigma**2)).reshape(-1, *[1] * (z.ndim - 1))
    return mean + weight * (z - mean)


def exact(z, start, mean=0.3, std=0.5):
    """Where the probability-flow line from level ``start`` ends."""
    return mean + (z - mean) * std / (std**2 + start**2) ** 0.5


@pytest.mark.parametrize(("name", "bound"), [("euler", 0.05), ("heun", 0.01), ("dpmpp_2m", 0.01)])
def test_samplers_follow_the_exact_line(name, bound):
    z = 80 * image_noise(0, range(4), (3, 4, 4))
    errors = []
    for steps in (16, 32):
        found = sample(name, gaussian, z, karras_sigmas(steps))
        errors.append(float((found - exact(z, 80)).square().mean().sqrt()))
    assert errors[1] < bound and errors[1] < errors[0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_evaluations_are_counted(name):
    calls = []

    def denoise(z, sigma):
        assert sigma.shape == (2,)
        calls.append(float(sigma[0]))
        return gaussian(z, sigma)

    seen = []
    sample(
        name,
        denoise,
        image_noise(0, range(2), (3, 4, 4)),
        karras_sigmas(6, 0.05, 20),
        callback=lambda step, z, clean: seen.append(step),
    )
    assert len(calls) == evaluations(name, 6)
    asked = asked_levels(name, karras_sigmas(6, 0.05, 20.0))
    assert [level for _, level in asked] == pytest.approx(calls)
    assert sorted({step for step, _ in asked}) == seen
    assert seen == list(range(6))


def test_one_step_returns_the_estimate():
    z = 20 * image_noise(0, range(2), (3, 4, 4))
    for name in SAMPLERS:
        found = sample(name, gaussian, z, karras_sigmas(1, 0.05, 20))
        torch.testing.assert_close(found, gaussian(z, torch.full((2,), 20.0)))


@pytest.mark.parametrize(("final_step", "draws"), [("mean", [0, 1, 2]), ("compat", [0, 2, 3])])
def test_ancestral_noise(final_step, draws):
    asked = []

    def draw(step):
        asked.append(step)
        return torch.zeros(2, 3, 4, 4)

    ancestral(lambda z, _: z, torch.zeros(2, 3, 4, 4), cosine_grid(4), draw, final_step)
    assert asked == draws


def test_ancestral_sampling_reproduces_the_data():
    mean, std = 0.3, 0.2

    def predict(z, logsnr):
        alpha, sigma = torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()
        alpha, sigma = alpha.reshape(-1, 1, 1, 1), sigma.reshape(-1, 1, 1, 1)
        clean = mean + (alpha * std**2 / (alpha**2 * std**2 + sigma**2)) * (z - alpha * mean)
        return (z - alpha * clean) / sigma

    pairs = range(16)
    start = image_noise(0, pairs, (3, 8, 8))
    out = ancestral(
        predict,
        start,
        cosine_grid(256),
        lambda step: image_noise(0, pairs, (3, 8, 8), stream=step + 1),
        limit=None,
    )
    assert float(out.mean()) == pytest.approx(mean, abs=0.02)
    assert float(out.std()) == pytest.approx(std, rel=0.06)


def test_dpmpp_2m_equals_diffusers():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0, final_sigmas_type="zero"
    )
    steps = 10
    scheduler.set_timesteps(steps)
    z = start = 80 * image_noise(3, range(2), (3, 4, 4))
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index]
        clean = gaussian(z, sigma.expand(2))
        # The scheduler takes the network's raw output: invert its own preconditioning.
        root = (sigma**2 + 0.25).sqrt()
        raw = (clean - 0.25 / root**2 * z) / (sigma * 0.5 / root)
        z = scheduler.step(raw, timestep, z).prev_sample
    found = sample("dpmpp_2m", gaussian, start, karras_sigmas(steps))
    torch.testing.assert_close(found, z, atol=2e-4, rtol=2e-4)


def test_image_noise_belongs_to_the_image():
    whole = image_noise(5, [7, 8, 9], (3, 4, 4))
    assert torch.equal(image_noise(5, [9], (3, 4, 4))[0], whole[2])
    assert torch.equal(image_noise(5, [9, 7], (3, 4, 4)), whole[[2, 0]])
    assert not torch.equal(image_noise(6, [7], (3, 4, 4))[0], whole[0])
    assert not torch.equal(image_noise(5, [7], (3, 4, 4), stream=1)[0], whole[0])
    assert abs(float(image_noise(0, range(50), (3, 16, 16)).std()) - 1) < 0.01
    with pytest.raises(ValueError, match="must be >= 0"):
        image_noise(0, [-1], (3, 4, 4))
