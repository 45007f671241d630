"""Training with few labels: which samples have one, and what the others are good for.

The subset is that of ST-ED's semi-supervised setting (Zheng et al., NeurIPS 2020;
``zhengyuf/STED-gaze``): samples are numbered person by person in the order of the split, shuffled,
and the first ``count`` are labelled. Subsets of one seed are nested. Importable without torch.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from regaze.faces import FacesReader

SHARED = "train-redirector"
"""The list of the split whose samples are numbered for redirectors."""


class LabelSubset(BaseModel):
    """The samples whose labels may be used; all others are pictures only, or unused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=1, description="labelled samples among those that are trained on")
    seed: int = Field(0, ge=0, description="seed of the choice; 0 is that of the published code")

    def within(self, other: LabelSubset) -> bool:
        """Whether all samples of this subset are in the other one."""
        return self.seed == other.seed and self.count <= other.count


class PairLabels(LabelSubset):
    """The same for redirectors, with what becomes of pictures without a label."""

    estimator: str | None = Field(
        None,
        description="entry of estimators, trained on the same subset, that labels the other "
        "pictures; without it they are used only by methods that learn from bare pictures",
    )


def labelled_numbers(
    reader: FacesReader, persons: Sequence[str], labels: Mapping[str, Any]
) -> np.ndarray:
    """Numbers (count,) int64, sorted, of the labelled ones among ``reader.rows(persons)``.

    Args:
        reader: faces of the data set.
        persons: whom to number, in the order of the split.
        labels: ``count`` and ``seed`` of :class:`LabelSubset`.

    Raises:
        ValueError: there are fewer samples than labels asked for.
    """
    total = len(reader.rows(persons))
    if labels["count"] > total:
        raise ValueError(
            f"labels.count: expected at most the {total} samples of {len(persons)} persons, "
            f"found {labels['count']}"
        )
    return labelled_subset(total, labels["count"], labels["seed"])


def labelled_subset(total: int, size: int, seed: int = 0) -> np.ndarray:
    """Return the sorted numbers (size,) int64 of the labelled samples among ``total``.

    A Mersenne-Twister shuffle of 0..total-1 seeded by ``seed``, its first ``size`` entries.
    Raises ValueError when ``size`` is not between 1 and ``total``.
    """
    if not 1 <= size <= total:
        raise ValueError(f"labelled samples: expected 1 to {total}, found {size}")
    return np.sort(shuffled(total, seed)[:size])


def shuffled(total: int, seed: int = 0) -> np.ndarray:
    """Return 0..total-1 (int64) in the order of Python's seeded shuffle."""
    numbers = list(range(total))
    random.Random(seed).shuffle(numbers)
    return np.asarray(numbers, np.int64)
