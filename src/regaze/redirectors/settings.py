"""What the workflow asks of an entry of ``models:`` whatever its method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Requirements:
    """What a method's training takes beyond faces; names are entries of the configuration.

    Attributes:
        encoder: of ``encoders:``, whose latents of source and target it is given.
        masks: whether it is given masks.
        estimator: of ``estimators:``, for losses or validation; never the evaluation's own.
        teacher: of ``models:``, a trained model that this one learns from.
    """

    encoder: str | None = None
    masks: bool = False
    estimator: str | None = None
    teacher: str | None = None


def requirements(entry: Any) -> Requirements:
    """What an entry requires: its ``requires()``, or nothing where its method defines none."""
    asked = getattr(entry, "requires", None)
    return Requirements() if asked is None else asked()
