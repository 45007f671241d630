"""Fréchet distance between two sets of embeddings, from running moments.

``frechet_estimator`` is this distance in the evaluation estimator's embedding. It is not the FID,
which is defined on one particular Inception network, and never goes by that name.
"""

from __future__ import annotations

import numpy as np

ENOUGH_PER_DIMENSION = 5
"""Pictures per dimension below which a distance comes with a warning. The authors of FID want more
pictures than dimensions and recommend 10,000 for Inception's 2,048 (``bioinf-jku/TTUR``)."""


class Moments:
    """Mean and covariance of embeddings that arrive in batches, in float64.

    Memory is O(E^2) whatever the number of samples. Batches are merged by the pairwise update of
    Chan, Golub and LeVeque (1979), which does not cancel when the mean is large.
    """

    def __init__(self, size: int):
        self.count = 0
        self.mean = np.zeros(size)
        self._scatter = np.zeros((size, size))

    def add(self, embeddings: np.ndarray) -> None:
        """Take in (n, size) embeddings. Raises ValueError for NaN."""
        embeddings = np.asarray(embeddings, np.float64)
        if not np.isfinite(embeddings).all():
            raise ValueError("embeddings: expected finite values, found NaN or infinity")
        count = len(embeddings)
        if not count:
            return
        mean = embeddings.mean(0)
        centred = embeddings - mean
        step = mean - self.mean
        total = self.count + count
        self._scatter += centred.T @ centred + np.outer(step, step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance (E,E). Raises ValueError for fewer than two samples."""
        if self.count < 2:
            raise ValueError(f"covariance: expected at least 2 samples, found {self.count}")
        return self._scatter / (self.count - 1)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared 2-Wasserstein distance
    between the two normal distributions (Dowson and Landau, 1982).

    The trace of the root is taken from the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric
    and positive: no complex numbers appear and singular covariances (fewer samples than
    dimensions) need no correction. Raises ValueError for fewer than two samples on a side.
    """
    c1, c2 = first.covariance, second.covariance
    root = _root(c1)
    inner = root @ c2 @ root
    values = np.linalg.eigvalsh((inner + inner.T) / 2).clip(0)
    shift = float(((first.mean - second.mean) ** 2).sum())
    return max(0.0, shift + float(np.trace(c1) + np.trace(c2) - 2 * np.sqrt(values).sum()))


def bias_warning(count: int, dimensions: int) -> str | None:
    """Say that a distance between sets of ``count`` embeddings is too large, where that is much.

    Its expectation exceeds the distance between the distributions for any finite number of
    pictures, by an amount of order 1/n that depends on the method (Bińkowski et al., 2018; Chong
    and Forsyth, 2020). Two samples of one isotropic normal distribution, as large as it has
    dimensions, are half of its variance apart; of :data:`ENOUGH_PER_DIMENSION` times the size, a
    tenth.
    """
    enough = ENOUGH_PER_DIMENSION * dimensions
    if count >= enough:
        return None
    return (
        f"a Fréchet distance of {count} pictures in {dimensions} dimensions is too large, by an "
        f"amount that differs between methods; {enough} pictures or more are advised"
    )
