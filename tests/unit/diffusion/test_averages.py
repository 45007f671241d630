import numpy as np
import pytest

from regaze.diffusion.averages import (
    half_life_decay,
    posthoc_coefficients,
    power_decay,
    power_exponent,
    warmup_rate,
)


def test_half_life_halves_and_ramps():
    decay = half_life_decay(images=1e8, batch=100)
    assert decay ** (500e3 / 100) == pytest.approx(0.5)
    assert half_life_decay(images=1000, batch=100) == pytest.approx(0.5 ** (100 / 90))
    assert half_life_decay(images=0, batch=8) < 0.01


def test_power_width_is_the_one_asked_for():
    for std in (0.03, 0.1, 0.2):
        exponent = power_exponent(std)
        past = (np.arange(100_000) + 0.5) / 100_000
        weight = past**exponent
        weight /= weight.sum()
        centre = (weight * past).sum()
        assert np.sqrt((weight * (past - centre) ** 2).sum()) == pytest.approx(std, rel=1e-3)
    with pytest.raises(ValueError, match="EMA std"):
        power_exponent(0.4)


def test_snapshots_rebuild_another_average():
    batch, total, stds = 10, 4000, (0.05, 0.1)
    generator = np.random.default_rng(0)
    path = np.cumsum(generator.normal(size=total // batch)) * 0.1
    wanted, snapshots, when, widths = 0.0, [], [], []
    running = dict.fromkeys(stds, 0.0)
    for step, value in enumerate(path, 1):
        images = step * batch
        wanted += (value - wanted) * (1 - power_decay(images, batch, 0.08))
        for std in stds:
            running[std] += (value - running[std]) * (1 - power_decay(images, batch, std))
        if step % (total // batch // 8) == 0:
            snapshots += running.values()
            when += [images] * 2
            widths += stds
    mix = posthoc_coefficients(when, widths, total, 0.08)
    assert mix.sum(0) == pytest.approx([1.0])
    assert float(mix[:, 0] @ snapshots) == pytest.approx(wanted, abs=0.02 * np.std(path))


def test_warmup_starts_at_zero():
    assert warmup_rate([0, 5, 10, 20], 10, 1.0, 100).tolist() == [0, 0.5, 1, 1]
