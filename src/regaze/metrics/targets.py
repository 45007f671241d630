"""Directions to redirect to that nobody looked in: drawn from the density of known labels.

ST-ED's augmentation redirects every labelled picture to a direction of a Gaussian kernel density
over the labels (zhengyuf/STED-gaze ``train_st_ed.py``). Upstream counts targets per loader process
and so repeats them; here target k depends on (labels, seed, k) alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from regaze.estimators.subsets import label_density

log = logging.getLogger("regaze.metrics")

LIMIT = np.pi / 2
"""Predicted angles of ST-ED lie within plus and minus this; targets beyond are clipped."""


def kde_targets(
    labels: np.ndarray, seed: int, index: int | Sequence[int] | np.ndarray
) -> np.ndarray:
    """Draw directions from the kernel density (Scott's bandwidth) of known ones.

    Args:
        labels: (n,4) radians: gaze pitch, yaw, head pitch, yaw; at least five.
        seed: seed of the draw.
        index: number of the sample, or numbers (m,); each has a generator of its own, so that
            targets depend neither on how many are drawn nor on their order.

    Returns:
        (4,) or (m,4) float32 radians, clipped to [-pi/2, pi/2] with a warning.

    Raises:
        ValueError: another shape of labels.
    """
    labels = np.asarray(labels, np.float64)
    density = label_density(labels)
    root = np.linalg.cholesky(density.covariance)
    numbers = np.atleast_1d(np.asarray(index, np.int64))
    drawn = np.empty((len(numbers), 4))
    for row, number in enumerate(numbers):
        generator = np.random.default_rng([seed, 3, int(number)])
        centre = labels[generator.integers(len(labels))]
        drawn[row] = centre + root @ generator.standard_normal(4)
    outside = int((np.abs(drawn) > LIMIT).any(1).sum())
    if outside:
        log.warning("%d of %d drawn directions lie beyond 90 degrees, clipped", outside, len(drawn))
    drawn = drawn.clip(-LIMIT, LIMIT).astype(np.float32)
    return drawn[0] if np.ndim(index) == 0 else drawn
