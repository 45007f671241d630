"""Numbering, subsets, densities, rates; exact values of the published code are in conformance."""

import numpy as np
import pytest

from regaze.estimators.preprocess import prepare
from regaze.estimators.subsets import (
    evaluation_subset,
    label_density,
    sample_index,
    stepped_rate,
)
from regaze.images import equalise, reduce_patches
from regaze.training.labels import labelled_subset


def test_sample_index_orders():
    counts = {"b": 2, "a": 1}
    assert sample_index(counts) == [("a", 0), ("b", 0), ("b", 1)]
    assert sample_index(counts, ["b", "x", "a"], minimum=2) == [("b", 0), ("b", 1)]


def test_labelled_subset_is_sorted_distinct_and_local():
    import random

    random.seed(7)
    before = random.getstate()
    chosen = labelled_subset(100, 20)
    assert random.getstate() == before
    assert len(set(chosen)) == 20 and (np.diff(chosen) > 0).all() and chosen.max() < 100
    assert not np.array_equal(chosen, labelled_subset(100, 20, seed=1))
    with pytest.raises(ValueError, match="expected 1 to 5, found 6"):
        labelled_subset(5, 6)


def test_evaluation_subset():
    assert evaluation_subset(10, 0.5).tolist() == [0, 2, 4, 6, 8]


def test_density_is_scott():
    labels = np.random.default_rng(0).normal(size=(50, 4))
    density = label_density(labels)
    assert density.factor == pytest.approx(50 ** (-1 / 8))
    assert np.allclose(density.covariance, np.cov(labels.T) * density.factor**2)
    with pytest.raises(ValueError, match="shape"):
        label_density(labels[:, :2])


def test_stepped_rate():
    assert stepped_rate(34479, 1.0) == 1 and stepped_rate(68960, 1.0) == pytest.approx(0.64)


def test_prepare_equalises_at_the_size_the_network_sees():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert np.array_equal(prepare(pixels, 4, "none"), reduce_patches(pixels, 4))
    assert np.array_equal(prepare(pixels, 8, "equalise"), reduce_patches(equalise(pixels)))
    assert prepare(pixels, 4, "equalise").shape == (2, 3, 4, 4)
