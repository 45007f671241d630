"""Chains: what can be kept of them, and that DDIM is Euler's method."""

import numpy as np
import pytest
import torch

from regaze.diffusion.chains import Chain, kept_steps, respacing_of


@pytest.mark.parametrize(
    ("word", "kept"),
    [("", range(10)), ("ddim5", range(0, 10, 2)), ("3", (0, 4, 9)), ("2,1", (0, 4, 5))],
)
def test_respacings(word, kept):
    assert kept_steps(10, word).tolist() == list(kept)


@pytest.mark.parametrize("word", ["ddim7", "ddim", "ddpm", "11", "1,,2", "0"])
def test_respacings_that_cannot_be_had(word):
    with pytest.raises(ValueError, match="respacing"):
        kept_steps(10, word)


def test_so_many_steps_are_had_by_stride_or_evenly():
    assert [respacing_of(count, 1000) for count in (20, 600)] == ["ddim20", "600"]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_respaced_chain_has_the_noise_of_the_steps_it_keeps(schedule):
    whole, some = (Chain.made(schedule, 1000, word) for word in ("", "ddim20"))
    np.testing.assert_allclose(some.shares, whole.shares[some.steps], rtol=1e-12)
    assert some.shares_before[0] == 1 and some.shares_after[-1] == 0


def test_a_step_back_undoes_a_step_of_ddim():
    chain, index = Chain.made("linear", 1000, "ddim50"), torch.tensor([3, 20])
    z, clean = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4).clamp(-1, 1)
    there = chain.inverse_step(z, clean, index)
    back = chain.ddim_step(there, clean, index + 1)
    torch.testing.assert_close(back, z, atol=2e-5, rtol=1e-4)


def test_unknown_schedules_are_refused():
    with pytest.raises(ValueError, match="schedule: expected one of linear, cosine, found 'sqrt'"):
        Chain.made("sqrt", 10)
