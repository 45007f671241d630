"""Training with few labels: which samples have one, and what the others are good for.

The subset is that of ST-ED's semi-supervised setting (Zheng et al., NeurIPS 2020;
``zhengyuf/STED-gaze``): samples are numbered person by person in the order of the split, shuffled,
and the first ``count`` are labelled. Subsets of one seed are nested. Importable without torch.
"""

from __future__ import annotations

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
    from regaze.estimators.subsets import labelled_subset

    total = len(reader.rows(persons))
    if labels["count"] > total:
        raise ValueError(
            f"labels.count: expected at most the {total} samples of {len(persons)} persons, "
            f"found {labels['count']}"
        )
    return labelled_subset(total, labels["count"], labels["seed"])


def pair_options(
    reader: FacesReader,
    persons: Sequence[str],
    labels: Mapping[str, Any] | None,
    labeller=None,
) -> dict[str, Any]:
    """Arguments of :class:`regaze.training.data.PairBatches` for a resolved section ``labels``.

    Args:
        reader: faces of the data set.
        persons: whom to train on.
        labels: ``count``, ``seed`` and ``targets`` (``labelled`` or ``any``); None: all labels.
        labeller: a trained estimator that labels the pictures without labels, or None.

    Raises:
        ValueError: there are fewer samples than labels asked for.
    """
    if labels is None:
        return {}
    numbers = labelled_numbers(reader, persons, labels)
    if labeller is None:
        return {"labelled": numbers, "targets": labels["targets"]}
    from regaze.estimators.evaluate import predict_rows

    rows = reader.rows(persons)
    table = predict_rows(labeller, reader, rows)
    table[numbers] = reader.labels[rows[numbers], :4]
    return {"labelled": numbers, "labels": table}
