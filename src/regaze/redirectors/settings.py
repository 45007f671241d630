"""What the workflow asks of an entry of ``models:`` whatever its method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import BaseModel, Field

from regaze.training.labels import SHARED, PairLabels


@dataclass(frozen=True)
class Requirements:
    """What a method's training takes beyond faces; names are entries of the configuration.

    Attributes:
        encoder: of ``encoders:``, whose latents of source and target it is given.
        masks: whether it is given masks.
        estimator: of ``estimators:``, for losses or validation; never the evaluation's own.
        teacher: of ``models:``, a trained model that this one learns from.
        unlabelled_targets: whether it can learn from targets without labels; where few samples
            have labels its batches then pair labelled sources with any target of the person, whose
            labels are zeros unless ``target_labelled`` (B,) bool says otherwise.
    """

    encoder: str | None = None
    masks: bool = False
    estimator: str | None = None
    teacher: str | None = None
    unlabelled_targets: bool = False


def requirements(entry: Any) -> Requirements:
    """What an entry requires: its ``requires()``, and the estimator that validates it.

    Raises:
        ValueError: its losses and its validation name different estimators.
    """
    asked = getattr(entry, "requires", None)
    needs = Requirements() if asked is None else asked()
    validating = getattr(getattr(entry, "train", None), "validate_estimator", None)
    if validating is None or validating == needs.estimator:
        return needs
    if needs.estimator is not None:
        raise ValueError(
            f"train.validate_estimator: {validating!r}, but the method learns from "
            f"{needs.estimator!r}; expected the same one"
        )
    return replace(needs, estimator=validating)


def samples_with_noise(entry: Any) -> bool:
    """Whether an entry's class draws noise and removes it in steps; false unless it says so."""
    return bool(getattr(entry, "samples_with_noise", False))


def guidable(entry: Any) -> bool:
    """Whether an entry can be sampled with guidance weights; false unless it says so."""
    return samples_with_noise(entry) and bool(getattr(entry, "guidable", False))


@cache
def with_labels(method: type[BaseModel]) -> type[BaseModel]:
    """A method's ModelSettings with the section ``labels``, which every entry of ``models:`` has.

    ``resolve()`` of the result holds ``labels`` (``count``, ``seed``, ``estimator`` and
    ``targets``: ``labelled``, or ``any`` where the method learns from unlabelled ones) when the
    entry has the section, and is the method's own otherwise.
    """

    class ModelSettings(method):
        __doc__ = method.__doc__

        labels: PairLabels | None = Field(
            None, description="learn with the labels of so many samples; default all"
        )

        def resolve(self) -> dict:
            """The method's complete configuration, and the labels that it may use."""
            done = super().resolve()
            if self.labels is not None:
                targets = "any" if requirements(self).unlabelled_targets else "labelled"
                done["labels"] = {**self.labels.model_dump(), "targets": targets}
            return done

    return ModelSettings


def check_labels(
    path: str, entry: Any, estimators: Mapping[str, Any], models: Mapping[str, Any]
) -> None:
    """Refuse a model with few labels that would get others through a network it learns from.

    Args:
        path: where the entry stands in the configuration, for the message.
        entry: of ``models:``; one without ``labels`` has nothing to hide.
        estimators, models: the entries that it may refer to, by name.

    Raises:
        ValueError: its training estimator, labeller or teacher has seen other labels; the message
            names both.
    """
    labels, needs = getattr(entry, "labels", None), requirements(entry)
    if labels is None:
        return
    others = [
        (f"its training estimator estimators.{needs.estimator}", estimators.get(needs.estimator)),
        (f"labels.estimator estimators.{labels.estimator}", estimators.get(labels.estimator)),
        (f"its teacher models.{needs.teacher}", models.get(needs.teacher)),
    ]
    for what, other in others:
        if other is None:
            continue
        theirs = getattr(other, "labels", None)
        persons = getattr(other, "persons", SHARED)
        if theirs is not None and theirs.within(labels) and persons == SHARED:
            continue
        found = "all labels" if theirs is None else f"{theirs.count} labels of seed {theirs.seed}"
        raise ValueError(
            f"{path}: it may use {labels.count} labels of seed {labels.seed}, but {what} learns "
            f"with {found} of {persons}, which would leak; give that one labels: {{count: "
            f"{labels.count}, seed: {labels.seed}}} of {SHARED} too"
        )
