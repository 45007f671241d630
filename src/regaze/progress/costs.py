"""CPU seconds that jobs are expected to take: a table times what a job has to go through.

The table (``costs.yaml``) was measured on the embedded default. Its figures need to be right in
relation to each other only: how fast a machine is comes from what ran so far.

Light: the Snakefile imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_UNKNOWN = {"start": 10.0}


@cache
def table() -> dict[str, dict[str, Any]]:
    """Costs by rule: ``start`` in seconds, and for every 1,000 units of ``of`` a figure ``each``.

    ``each`` is a number, or numbers by entry or by the entry's class, ``other`` for all the rest.
    """
    text = files("regaze.progress").joinpath("costs.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def expected_seconds(rule: str, wildcards: Mapping[str, str], settings: Any) -> float:
    """CPU seconds that a job is expected to take.

    Args:
        rule: its rule's name; one that is not in the table is taken for 10 s.
        wildcards: of the job.
        settings: of the workflow (:class:`regaze.settings.Settings`).
    """
    cost = table().get(rule, _UNKNOWN)
    amount = _AMOUNTS[cost["of"]](wildcards, settings) if "of" in cost else 0
    return cost["start"] + amount / 1000 * _each(cost.get("each", 0.0), wildcards, settings)


def _each(figures: float | dict[str, float], wildcards: Mapping[str, str], settings: Any) -> float:
    if not isinstance(figures, dict):
        return figures
    name = next((wildcards[key] for key in _ENTRIES if key in wildcards), "")
    entry = settings.models.get(name)
    kind = entry.class_ if entry else ""
    return figures.get(name, figures.get(kind, figures["other"]))


_ENTRIES = ("model", "redirector", "estimator", "encoder")


def _trained(wildcards: Mapping[str, str], settings: Any) -> int:
    """Images that a training sees."""
    if "model" in wildcards:
        return settings.models[wildcards["model"]].train.images
    if "encoder" in wildcards:
        return settings.encoders[wildcards["encoder"]].train.images
    if "estimator" in wildcards:
        return settings.estimators[wildcards["estimator"]].train.images
    return settings.identity.train.images


def _photos(wildcards: Mapping[str, str], settings: Any) -> float:
    """Photos of a job; of a data set whose photos nobody has counted, as many as of a rendered."""
    capture = settings.capture
    rendered = sum(capture.persons.model_dump().values()) * capture.photos_of_person
    return rendered / settings.shards if "shard" in wildcards else rendered


def _pairs(wildcards: Mapping[str, str], settings: Any) -> int:
    return sum(settings.pair_counts.values())


_AMOUNTS = {
    "trained": _trained,
    "photos": _photos,
    "pairs": _pairs,
    "perturbed": lambda wildcards, settings: settings.evaluation.perturbed,
    "labelled": lambda wildcards, settings: settings.augmentation.images,
    "labelled_redirector": lambda wildcards, settings: settings.augmentation.redirector_images,
}
