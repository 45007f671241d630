"""The section ``augmentation:``; importable without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from regaze.redirectors.declaration import declared
from regaze.training.labels import SHARED, LabelSubset, PairLabels

ALL = "all"
"""The number of labels that stands for every sample having one."""


class AugmentationSettings(BaseModel):
    """The study of few labels, target ``augmentation``; no part of ``all``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    redirectors: list[str] = Field([], description="entries of models that make the pictures")
    redirector_labels: Literal["subset", "all"] = Field(
        "subset",
        description="subset: a redirector is trained for every number of labels, with these "
        "labels only; all: those of `models`, which saw all labels, an upper bound",
    )
    pseudo_labels: bool = Field(
        True,
        description="redirectors that cannot learn from bare pictures learn from all pictures, "
        "labelled by the estimator that learnt from the same few; false: from labelled ones only",
    )
    estimator: str | None = Field(
        None, description="entry of estimators whose network and training the study takes"
    )
    counts: list[int | Literal["all"]] = Field(
        [100, 400, 1000, ALL],
        min_length=1,
        description="numbers of labelled samples; all: every one",
    )
    seeds: list[int] = Field(
        [0, 1], min_length=1, description="of subset, targets and training; one study each"
    )
    targets: int = Field(1, ge=1, description="redirected pictures per labelled sample")
    images: int | None = Field(
        None, ge=1, description="length of every estimator's training; default its entry's"
    )
    redirector_images: int | None = Field(
        None, ge=1, description="length of every redirector's training; default its entry's"
    )
    export: bool = Field(
        False, description="also write Redirected_samples.h5, as ST-ED's code reads it"
    )

    @field_validator("counts", "seeds", "redirectors")
    @classmethod
    def _different(cls, values):
        if len(set(values)) < len(values):
            raise ValueError(f"expected different values, found {values}")
        if any(isinstance(value, int) and value < 0 for value in values):
            raise ValueError(f"expected no negative numbers, found {values}")
        return values

    def about(self, dataset: str, estimators: Mapping[str, Any], measured: str) -> dict[str, str]:
        """What the study's page says on how it was made: what it is, value."""
        length = self.images or (estimators[self.estimator].train.images if self.estimator else 0)
        makers = {
            "subset": "trained for every number of labels, with these labels only",
            "all": "trained with the labels of all samples: an upper bound, not what few labels "
            "can do",
        }[self.redirector_labels]
        lines = {
            "Data set": f"{dataset}; labelled samples are of the list {SHARED}, errors are of "
            f"{measured}",
            "Estimator": f"{self.estimator}, {length:,} pictures seen, whatever it learns from",
            "Redirected pictures": f"{self.targets} per labelled sample, to directions drawn from "
            "the density of the labels",
            "Redirectors": f"{', '.join(self.redirectors) or 'none'}; {makers}",
        }
        if self.redirectors and self.redirector_labels == "subset":
            lines["Pictures without a label"] = (
                "redirectors that cannot learn from them as they are get labels by the estimator "
                "that learnt from the same few"
                if self.pseudo_labels
                else "used by redirectors that can learn from them as they are"
            )
        lines["Repetitions"] = f"seeds {', '.join(map(str, self.seeds))}, each with another subset"
        return lines

    def check(self, estimators: Mapping[str, Any], models: Mapping[str, Any]) -> None:
        """Refuse names that are not defined and redirectors whose labels would leak.

        Raises:
            ValueError: the message names the key and what is expected.
        """
        for fault in self._faults(estimators, models):
            raise ValueError(f"augmentation.{fault}")

    def _faults(self, estimators: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
        for name in self.redirectors:
            who = f"redirectors: {name!r}"
            if name not in models:
                yield f"{who} is not defined; expected some of {', '.join(models)}"
            if self.redirector_labels == "all":
                continue
            if start := getattr(models[name].train, "transfer", None):
                yield (
                    f"{who} starts from the weights {start!r}, which may know labels outside the "
                    "subset; set redirector_labels: all, or leave its train.transfer out"
                )
            for other in declared(models[name]).networks:
                if other.section == "models":
                    yield (
                        f"{who} learns from its {other.role} {other.entry!r}, which would have to "
                        f"be trained on the subset first; name the {other.role}, or set "
                        "redirector_labels: all"
                    )
        expected = f"expected one of {', '.join(estimators)}"
        if self.estimator is None:
            if self.redirectors:
                yield f"estimator: {expected}, found none"
        elif self.estimator not in estimators:
            yield f"estimator: {self.estimator!r} is not defined; {expected}"
        for name in self.redirectors:
            made = models[name].resolve().get("preprocess", "none")
            read = estimators[self.estimator].preprocess
            if made not in ("none", read):
                yield (
                    f"estimator: {self.estimator!r} has preprocess {read!r}, but the pictures of "
                    f"{name!r} come out with {made!r}: expected {made!r}"
                )


class Draw(NamedTuple):
    """One point of the study: how many labels, and which seed."""

    count: int | str
    seed: int

    @property
    def name(self) -> str:
        """As in paths: ``n100-s0``, ``nall-s1``."""
        return f"n{self.count}-s{self.seed}"

    @classmethod
    def parse(cls, name: str) -> Draw:
        """The draw of a path's part; the inverse of :attr:`name`."""
        count, seed = name.removeprefix("n").split("-s")
        return cls(count if count == ALL else int(count), int(seed))

    @property
    def subset(self) -> LabelSubset | None:
        """Its labelled samples; None where all are."""
        return None if self.count == ALL else LabelSubset(count=self.count, seed=self.seed)

    @property
    def plain(self) -> dict | None:
        """The subset as plain values."""
        return None if self.subset is None else self.subset.model_dump()


def estimator_entry(entry, draw: Draw, images: int | None, data: str) -> dict:
    """Configuration of an estimator of the study as plain values.

    Args:
        entry: of ``estimators:``.
        draw: whose labels it may use.
        images: length of its training, None for the entry's.
        data: ``labelled`` (real pictures) or ``augmented`` (real and redirected ones).
    """
    changed = entry.model_copy(
        update={"labels": draw.subset, "persons": SHARED, "train": _length(entry.train, images)}
    )
    return {**changed.model_dump(), "data": data}


def redirector_entry(entry, draw: Draw, images: int | None, labeller: str | None) -> dict:
    """Resolved configuration of a redirector that may use the labels of a draw.

    Args:
        entry: of ``models:``.
        draw: whose labels it may use.
        images: length of its training, None for the entry's.
        labeller: name of what labels the other pictures, None if nothing does.
    """
    labels = None
    if draw.subset is not None:
        labels = PairLabels(**draw.subset.model_dump(), estimator=labeller)
    changed = entry.model_copy(update={"labels": labels, "train": _length(entry.train, images)})
    return changed.resolve()


def _length(train, images: int | None):
    return train if images is None else train.model_copy(update={"images": images})
