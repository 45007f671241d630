"""Which work to cite for what a report shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """A publication: authors, title, where and when, and its number at arXiv if it has one."""

    authors: str
    title: str
    venue: str
    arxiv: str = ""


WORKS: Mapping[str, Work] = {
    key: Work(**about)
    for key, about in json.loads(Path(__file__).with_name("works.json").read_text("utf-8")).items()
}

_METHODS = (
    ("xunet_deca", ("cho", "3dim", "edm", "dpm++", "deca", "flame")),
    ("xunet_lite", ("unet", "edm", "dpm++", "cfg")),
    ("xunet", ("3dim", "cho", "edm", "dpm++", "cfg")),
    ("regression", ("unet",)),
    ("redirtrans_gan", ("redirtrans", "e4e", "stylegan2")),
    ("redirtrans", ("redirtrans", "sted")),
    ("inver", ("e4e", "stylegan2")),
    ("sted", ("sted",)),
    ("eyewarp", ("deepwarp",)),
    ("gazenerf", ("gazenerf", "headnerf")),
    ("gcgan", ("gcgan",)),
    ("diffusionrig", ("diffusionrig", "deca", "flame")),
)
_DATA = (
    ("synthetic", ("flame", "gazecapture")),
    ("gazecapture", ("gazecapture",)),
    ("mpii", ("mpii",)),
    ("xgaze", ("xgaze",)),
    ("columbia", ("columbia",)),
)
ALWAYS = ("normalisation", "faze", "sted")
"""Normalisation, the way of preprocessing, and the estimators and error definitions."""


def works_of_model(name: str, kind: str = "") -> tuple[str, ...]:
    """Return the keys into :data:`WORKS` for a model, found by its name, then by its class."""
    for text in (name.lower(), kind.lower()):
        for part, keys in _METHODS:
            if part in text:
                return keys
    return ()


def works_of_dataset(name: str) -> tuple[str, ...]:
    """Return the keys into :data:`WORKS` for a data set, found by its name."""
    for part, keys in _DATA:
        if part in name.lower().replace("-", "").replace("_", ""):
            return keys
    return ()


def bibliography(keys: Sequence[str]) -> list[tuple[int, str, Work]]:
    """Return ``(number, key, work)`` once per key, numbered from 1 in order of first use."""
    unique = list(dict.fromkeys(keys))
    return [(number, key, WORKS[key]) for number, key in enumerate(unique, 1)]
