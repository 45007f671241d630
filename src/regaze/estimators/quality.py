"""Whether an estimator reads changes of gaze at all; importable without torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

LEAST_SLOPE = 0.8
"""Slope of estimates over labels of people not seen, below which a reading says too little."""
PARTS = ("pitch", "yaw")


def blind(record: Mapping[str, Any]) -> dict[str, str]:
    """Why readings of gaze ``pitch`` or ``yaw`` say too little, by these names.

    Args:
        record: an estimator's ``model.json``; one without slopes tells nothing against it.
    """
    held_out = record.get("held_out") or {}
    found = {}
    for which in PARTS:
        slope = held_out.get(f"gaze_{which}_slope")
        if slope is not None and slope < LEAST_SLOPE:
            found[which] = (
                f"{record.get('name')} reads {slope:.2f} of a change of gaze in {which} on people "
                f"it has not seen, expected at least {LEAST_SLOPE:g}"
            )
    return found


def warn_of_blind(log: logging.Logger, record: Mapping[str, Any], consequence: str) -> None:
    """Say which changes of gaze an estimator reads by less than they are, and what follows."""
    for reason in blind(record).values():
        log.warning("estimator %s: %s", reason, consequence)
