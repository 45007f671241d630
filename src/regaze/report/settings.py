"""The section ``evaluation:``, variants of sampling among it. Light: the Snakefile imports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from regaze.albums import AlbumSettings
from regaze.factors import GAZE_AND_HEAD, KINDS, compared_kinds, current_kind

REFERENCE = "reference"
"""Name of the variant that the others are compared with, pair by pair."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceSettings(_Section):
    """A slow way of sampling that the quick ones are compared with."""

    sampler: Literal["ancestral", "heun", "euler", "dpmpp_2m"] = Field(
        "ancestral", description="solver"
    )
    steps: int = Field(256, ge=1, le=1000, description="solver steps")
    pairs: int = Field(40, ge=2, description="the first so many of the study's pairs")


class StudySettings(_Section):
    """Few steps or many, little guidance or much: the same pairs sampled in several ways."""

    models: list[str] | None = Field(
        None, description="entries of models that sample with noise; null or none for no study"
    )
    steps: list[int] = Field([1, 2, 4, 8, 16], description="numbers of solver steps")
    weights: list[float] = Field(
        [0.0, 0.5, 1.0, 2.0], description="guidance weights, at the steps of `sampling`"
    )
    kind: Literal[compared_kinds()] = Field(
        GAZE_AND_HEAD, description="kind of pairs that are sampled"
    )
    pairs: int = Field(120, ge=2, description="the first so many pairs of that kind")
    reference: ReferenceSettings | None = Field(
        None, description="a sampler that all are compared with, pair by pair; null for none"
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _kind(cls, value):
        return current_kind(value)

    @field_validator("steps", "weights")
    @classmethod
    def _different(cls, values, info):
        what, low, high = (
            ("weights", 0, 20) if info.field_name == "weights" else ("numbers", 1, 1000)
        )
        if any(not low <= value <= high for value in values) or len(set(values)) < len(values):
            raise ValueError(f"expected different {what} from {low} to {high}, found {values}")
        return sorted(values)

    def variants(self) -> dict[str, dict[str, Any]]:
        """What differs from the ``sampling:`` section, by the variant's name."""
        found: dict[str, dict[str, Any]] = {f"steps{n}": {"steps": n} for n in self.steps}
        found |= weight_variants(self.weights)
        if self.reference is not None:
            found[REFERENCE] = {
                "sampler": self.reference.sampler,
                "steps": self.reference.steps,
                "pairs": self.reference.pairs,
            }
        return found


def weight_variants(weights: list[float]) -> dict[str, dict[str, Any]]:
    """Variants of guidance weights: ``w1.0`` and so on."""
    return {f"w{float(weight)}": {"guidance": float(weight)} for weight in weights}


def axis_of(variant: str, changes: Mapping[str, Any]) -> tuple[str, float]:
    """On which axis a variant lies, ``steps``, ``weight`` or ``reference``, and at which value."""
    if variant == REFERENCE:
        return REFERENCE, float(changes["steps"])
    if "guidance" in changes:
        return "weight", float(changes["guidance"])
    return "steps", float(changes["steps"])


class _PairCounts(_Section):
    """Evaluation pairs per kind; of sweeps the number of source pictures."""

    @model_validator(mode="before")
    @classmethod
    def _old_words(cls, given):
        # An overlay with the old word lies on top of a file that has the new one.
        old = [key for key in given if current_kind(key) != key] if isinstance(given, dict) else []
        new = {current_kind(key): given[key] for key in old}
        return {key: given[key] for key in given if key not in old} | new if old else given


PairCounts = create_model(
    "PairCounts",
    __base__=_PairCounts,
    __doc__=_PairCounts.__doc__,
    **{
        kind.name: (int, Field(kind.default, ge=0, description=kind.about))
        for kind in KINDS.values()
    },
)


class Evaluation(_Section):
    """What is measured on what."""

    estimator: str = Field("resnet", description="entry of estimators that measures all methods")
    encoder: str | None = Field(
        None,
        description="entry of encoders that reads shape, expression, jaw and light where an entry "
        "of models edits them; null: the first",
    )
    datasets: list[str] | None = Field(
        None, description="entries of datasets to evaluate on besides the one trained on"
    )
    split: str = Field("test", description="list of the split file")
    same_deg: float = Field(
        0.05,
        gt=0,
        description="directions closer than this are the same for gaze_only and head_only pairs",
    )
    pairs: PairCounts = PairCounts()
    albums: AlbumSettings | None = Field(
        None, description="pictures of evaluated persons for models of their own; null for none"
    )
    models: list[str] | None = Field(
        None, description="rows of the report; default all of models, copy and truth"
    )
    atlas: int = Field(
        0,
        ge=0,
        le=10,
        description="persons whose faces each method draws for a grid of gaze directions, as pages "
        "that the report links to; of methods that take a picture and its angles alone; 0: none",
    )
    bootstrap: int = Field(1000, ge=100, description="resamples of persons for intervals")
    perturbed: int = Field(
        100, ge=0, description="pictures for the induced errors of random turns, 0 = none"
    )
    study: StudySettings = StudySettings()
    remove_background: bool | list[str] = Field(
        False, description="data sets whose sources and targets lose their background; true: all"
    )
    background: tuple[int, int, int] = Field(
        (0, 0, 0), description="R, G, B that takes the background's place"
    )

    @field_validator("background")
    @classmethod
    def _colour(cls, value):
        if any(not 0 <= part <= 255 for part in value):
            raise ValueError(f"expected R, G, B from 0 to 255, found {list(value)}")
        return value
