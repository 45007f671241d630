import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.diffusion.schedules import (
    alpha_sigma,
    cosine_grid,
    cosine_logsnr,
    karras_sigmas,
    lognormal_sigmas,
    logsnr_from_sigma,
    sigma_from_logsnr,
    stratified,
)
from regaze.redirectors.xunet.settings import SamplingSettings


def test_cosine_schedule_spans_its_range_and_falls():
    logsnr = cosine_logsnr(torch.linspace(0, 1, 101), -15, 10)
    assert logsnr[0] == pytest.approx(10) and logsnr[-1] == pytest.approx(-15)
    assert (logsnr.diff() < 0).all()
    assert cosine_grid(10).dtype == torch.float32 and len(cosine_grid(10)) == 11


@settings(max_examples=30, deadline=None)
@given(st.floats(-19, 19))
def test_the_two_descriptions_agree(level):
    logsnr = torch.tensor(level, dtype=torch.float64)
    alpha, sigma = alpha_sigma(logsnr)
    assert float(alpha**2 + sigma**2) == pytest.approx(1)
    assert float(sigma / alpha) == pytest.approx(float(sigma_from_logsnr(logsnr)))
    assert float(logsnr_from_sigma(sigma_from_logsnr(logsnr))) == pytest.approx(level, abs=1e-9)


def test_karras_grid():
    sigmas = karras_sigmas(5, 0.05, 20)
    assert sigmas[0] == pytest.approx(20) and sigmas[4] == pytest.approx(0.05) and sigmas[5] == 0
    assert (sigmas.diff() < 0).all()
    assert karras_sigmas(1, 0.05, 20).tolist() == pytest.approx([20, 0])


@pytest.mark.parametrize("interval", [(2.0, 2.0), (-0.5, 1.0)])
def test_a_guidance_interval_rises_from_zero_or_more(interval):
    low, high = interval
    with pytest.raises(ValueError, match=f"0 <= low < high, found {low} and {high}"):
        SamplingSettings(guidance_interval=interval)


def test_lognormal_levels_follow_their_law():
    levels = lognormal_sigmas((torch.arange(1000) + 0.5) / 1000, 1.0, 1.6).log()
    assert levels.mean() == pytest.approx(1.0, abs=1e-3)
    assert levels.std() == pytest.approx(1.6, abs=0.01)
    assert torch.isfinite(lognormal_sigmas(torch.tensor([0.0, 1.0]))).all()


def test_stratified_draws_fill_the_interval():
    draws = stratified(torch.tensor(0.3), 4)
    assert draws.tolist() == pytest.approx([0.075, 0.325, 0.575, 0.825])
    later = stratified(torch.full((2,), 0.3), 4, first=2)
    assert later.tolist() == pytest.approx(draws[2:].tolist())
    assert math.isclose(float(stratified(0.0, 1)[0]), 0.0)
