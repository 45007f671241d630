"""Fréchet distance and bootstrap against closed forms."""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm

from regaze.metrics.bootstrap import bootstrap_mean
from regaze.metrics.entries import by_angle, sted_protocol
from regaze.metrics.frechet import ENOUGH_PER_DIMENSION, Moments, bias_warning, frechet_distance


def moments(values, parts=1):
    result = Moments(values.shape[1])
    for part in np.array_split(values, parts):
        result.add(part)
    return result


def test_moments_in_parts_do_not_cancel():
    values = np.random.default_rng(0).normal(size=(101, 4)) + 1e7
    found = moments(values, 7)
    assert found.count == 101
    assert np.allclose(found.mean, values.mean(0))
    assert np.allclose(found.covariance, np.cov(values.T), rtol=1e-6)


def test_frechet_of_diagonal_normals_in_closed_form():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(500, 3))
    values = (values - values.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(values.T))).T
    first, second = values * [1.0, 2.0, 3.0], values * [2.0, 2.0, 1.0] + [1.0, 0.0, -2.0]
    assert frechet_distance(moments(first), moments(second)) == pytest.approx(1 + 4 + 1 + 4)


def test_frechet_agrees_with_the_matrix_root():
    rng = np.random.default_rng(2)
    first, second = (rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) for _ in range(2))
    a, b = np.cov(first.T), np.cov(second.T)
    wanted = ((first.mean(0) - second.mean(0)) ** 2).sum()
    wanted += np.trace(a + b - 2 * sqrtm(a @ b).real)
    found = frechet_distance(moments(first), moments(second))
    assert found == pytest.approx(wanted)
    assert found == pytest.approx(frechet_distance(moments(second), moments(first)))


def test_frechet_with_fewer_samples_than_dimensions():
    values = np.random.default_rng(3).normal(size=(5, 20))
    assert frechet_distance(moments(values), moments(values)) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(moments(values), moments(values + 1)) == pytest.approx(20, abs=1e-6)


def test_a_distance_of_few_pictures_is_too_large_and_says_so():
    rng, size = np.random.default_rng(4), 32
    shares = {}
    for per_dimension in (1, ENOUGH_PER_DIMENSION):
        pairs = rng.normal(size=(8, 2, per_dimension * size, size))
        found = [frechet_distance(moments(first), moments(second)) for first, second in pairs]
        shares[per_dimension] = np.mean(found) / size  # of the variance; the true distance is 0
    assert shares[1] == pytest.approx(0.5, abs=0.1)
    assert shares[ENOUGH_PER_DIMENSION] == pytest.approx(0.1, abs=0.03)
    said = bias_warning(ENOUGH_PER_DIMENSION * size - 1, size)
    assert "159 pictures in 32 dimensions" in said and "160 pictures or more" in said
    assert bias_warning(ENOUGH_PER_DIMENSION * size, size) is None
    assert bias_warning(10_000, 2048) and not bias_warning(50_000, 2048)


def test_moments_refuse():
    with pytest.raises(ValueError, match="at least 2 samples, found 1"):
        frechet_distance(moments(np.zeros((1, 2))), moments(np.zeros((3, 2))))
    with pytest.raises(ValueError, match="finite"):
        Moments(1).add(np.array([[np.nan]]))


def test_nothing_added_changes_no_moments():
    found = moments(np.arange(6.0).reshape(3, 2))
    found.add(np.zeros((0, 2)))
    assert found.count == 3 and found.mean.tolist() == [2, 3]


def test_bootstrap_mean_weights_by_pictures():
    found = bootstrap_mean(np.array([1.0, 1.0, 4.0, np.nan]), np.array(["a", "a", "b", "b"]))
    assert found.mean == pytest.approx(2.0) and found.n == 3 and found.persons == 2
    assert found.low == pytest.approx(1.0) and found.high == pytest.approx(4.0)


def test_bootstrap_interval_is_by_person():
    rng = np.random.default_rng(0)
    persons = np.repeat([f"{i:02d}" for i in range(40)], 25)
    values = np.repeat(rng.normal(size=40), 25)  # people differ, their pictures do not
    found = bootstrap_mean(values, persons)
    sigma = values[::25].std() / np.sqrt(40)
    assert found.standard_error == pytest.approx(sigma, rel=0.15)
    assert found.high - found.low == pytest.approx(2 * 1.96 * sigma, rel=0.2)


def test_bootstrap_is_seeded_and_independent_of_order():
    rng = np.random.default_rng(1)
    values, persons = rng.normal(size=60), rng.integers(0, 9, 60).astype(str)
    order = rng.permutation(60)
    assert bootstrap_mean(values, persons) == bootstrap_mean(values[order], persons[order])
    assert bootstrap_mean(values, persons) != bootstrap_mean(values, persons, seed=1)


def test_bootstrap_of_one_person_has_no_interval():
    found = bootstrap_mean(np.array([1.0, 3.0]), np.array(["a", "a"]))
    assert (found.mean, found.low, found.standard_error) == (2.0, None, None)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean(np.array([np.nan]), np.array(["a"]))


def test_errors_are_binned_by_angle_and_averaged_in_st_eds_way():
    rows = pd.DataFrame(
        {
            "person": ["a", "b"] * 20,
            "angle_deg": np.arange(40.0),
            "head_angle_deg": np.full(40, np.nan),
            "gaze_error_deg": np.arange(40.0) / 10,
            "head_error_deg": np.ones(40),
        }
    )
    found = by_angle(rows, {"seed": 0, "resamples": 100})
    assert found["head"] == []
    assert [(b["low"], b["high"], b["n"]) for b in found["gaze"]] == [
        (0, 5, 5),
        (5, 10, 5),
        (10, 15, 5),
        (15, 20, 5),
        (20, 30, 10),
        (30, 40, 10),
    ]
    assert np.isclose(found["gaze"][1]["mean"], 0.7)
    means = sted_protocol(rows, {"gaze_redirection": "gaze_error_deg"})["gaze_redirection"]
    assert np.isclose(means["mean_of_samples"], 1.95)
    # The last eight pictures count as much as the first 32.
    assert np.isclose(means["mean_of_batch_means"], (1.55 + 3.55) / 2)
    empty = rows.assign(gaze_error_deg=np.nan)
    assert sted_protocol(empty, {"gaze_redirection": "gaze_error_deg"}) == {}
