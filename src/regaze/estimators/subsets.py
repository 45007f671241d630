"""Sample numbering, labelled subsets and target densities of ST-ED's studies with few labels.

The rules are those of zhengyuf/STED-gaze (``dataset.py``, ``train_st_ed.py``), so that subsets of
the same data hold the same samples; the random generators are local to each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.stats import gaussian_kde


def sample_index(
    counts: Mapping[str, int], persons: Sequence[str] | None = None, minimum: int = 0
) -> list[tuple[str, int]]:
    """Number the samples of a data set person by person: ``[(person, row), ...]``.

    ``counts`` gives the samples per person. Without ``persons`` people come in sorted order;
    otherwise in the requested order, names without samples dropped. People with fewer than
    ``minimum`` samples are left out.
    """
    names = sorted(counts) if persons is None else [name for name in persons if name in counts]
    return [(name, row) for name in names if counts[name] >= minimum for row in range(counts[name])]


def evaluation_subset(total: int, proportion: float) -> np.ndarray:
    """Return the evenly spread numbers (int64) of an evaluation subset of ``total`` samples.

    floor(linspace(0, total, int(proportion total), endpoint excluded)).
    """
    return np.linspace(0, total, int(proportion * total), endpoint=False).astype(np.int64)


def label_density(labels: np.ndarray) -> gaussian_kde:
    """Return the Gaussian kernel density of (n,4) labels (gaze and head pitch, yaw; radians).

    Bandwidth by Scott's rule, n^(-1/8) in four dimensions. Evaluate with ``density(points (4,m))``.
    Raises ValueError for another shape or fewer than five labels, whose covariance is singular.
    """
    # Here, since it takes a second to import, and most that ask for samples want no density.
    from scipy.stats import gaussian_kde

    labels = np.asarray(labels, np.float64)
    if labels.ndim != 2 or labels.shape[1] != 4 or len(labels) < 5:
        raise ValueError(f"labels: expected shape (n>=5, 4), found {labels.shape}")
    return gaussian_kde(labels.T, bw_method="scott")


def stepped_rate(step: int, base: float, decay: float = 0.8, every: int = 34480) -> float:
    """Return ST-ED's learning rate at ``step``: base * decay^floor(step / every)."""
    return base * decay ** (step // every)


def thinned(total: int, usable: Callable[[int], bool]) -> list[int]:
    """The rows of a person with ``total`` photos that ReDirTrans' preparation keeps, about ten.

    Row i is looked at from a counter on, which a usable one moves on by ``total // 10``; an
    unusable one lets the next be tried (lintsao/2023_Summer_Intern).
    """
    kept: list[int] = []
    for row in range(total):
        if row >= len(kept) * (total // 10) and usable(row):
            kept.append(row)
    return kept
