"""The report's part on 3-D face encoders: how well codes explain photos of unseen people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from regaze.report.inputs import read_mapping
from regaze.report.sections import contact_sheet_uri

# (heading, unit, key of the record's quality, its value for the mean face, digits)
_COLUMNS = (
    ("Landmark error", "px of the crop", "landmark_px", None, 2),
    ("Landmark error", "% of the crop", "landmark_percent", "landmark_percent_mean", 2),
    ("Head rotation", "degrees", "rotation_deg", "rotation_deg_mean", 1),
    ("Render PSNR", "dB", "psnr_db", "psnr_db_mean", 1),
)
_SHAPE_CODES = 5


def encoder_section(records: Sequence[str | Path]) -> dict | None:
    """Return the table of encoders with measured quality and their sheets, None without any.

    Args:
        records: ``model.json`` of the encoders; ``quality.png`` is sought beside each. Encoders
            of published weights have no such record and are not listed.

    Raises:
        FileNotFoundError, ValueError: a record is missing, or no JSON object.
    """
    rows, sheets = [], []
    for path in map(Path, records):
        record = read_mapping(path)
        quality = record.get("quality")
        if not quality:
            continue
        name = record.get("name", path.parent.name)
        cells = [
            (_number(quality, key, digits), _number(quality, mean, digits) if mean else "")
            for _, _, key, mean, digits in _COLUMNS
        ]
        first = [value for value in quality.get("shape_correlation", ()) if value is not None]
        cells.append((", ".join(f"{value:.2f}" for value in first[:_SHAPE_CODES]) or "—", ""))
        rows.append({"name": name, "persons": quality.get("list", ""), "cells": cells})
        sheet = path.with_name("quality.png")
        if sheet.exists():
            sheets.append({"name": name, "uri": contact_sheet_uri(sheet)})
    if not rows:
        return None
    columns = [(heading, unit) for heading, unit, *_ in _COLUMNS]
    columns.append(("Correlation of shape codes", f"first {_SHAPE_CODES}"))
    return {"columns": columns, "rows": rows, "sheets": sheets}


def _number(quality: dict, key: str, digits: int) -> str:
    value = quality.get(key)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "—"
    return f"{value:.{digits}f}"
