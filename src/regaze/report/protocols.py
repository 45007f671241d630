"""The table of GazeNeRF's protocol, apart from all others."""

from __future__ import annotations

from collections.abc import Sequence

from regaze.factors import DEGREES, KINDS, LISTED
from regaze.metrics.protocols import NOT_DETECTED, PAPER_FID
from regaze.report import tables
from regaze.report.inputs import Results
from regaze.report.tables import Column

_BOTH = "reading of the redirected against that of the true picture, of faces that are detected"
COLUMNS = (
    Column("paper_gaze_deg", "Gaze, both read", DEGREES, 2, "lower", f"gaze: {_BOTH}"),
    Column("paper_head_deg", "Head, both read", DEGREES, 2, "lower", f"head: {_BOTH}"),
    Column("paper_ssim", "SSIM, listed pairs", "", 3, "higher", "structural likeness"),
    Column("paper_psnr", "PSNR, listed pairs", "dB", 2, "higher", "likeness, all pixels"),
    Column("paper_lpips", "LPIPS of VGG-16, listed pairs", "", 3, "lower", "perceptual distance"),
    Column(PAPER_FID, "FID, listed pairs", "", 1, "lower", "Inception's Fréchet distance"),
    Column(
        "paper_identity",
        "ID x 100",
        "",
        1,
        "higher",
        "hundredths of the cosine between a recogniser's vectors, of faces that are detected",
    ),
    Column(
        NOT_DETECTED,
        "No face found",
        "%",
        1,
        "lower",
        "pictures in which a detector finds no face, which errors and identity leave out",
    ),
)


def paper_table(all_results: Sequence[Results]) -> dict | None:
    """Columns and rows as :func:`regaze.report.sections.comparison_table` has; None without any."""
    measured = [
        results
        for results in all_results
        if any(one["mean"] is not None for one in results.metrics.get(LISTED, {}).values())
    ]
    if not measured:
        return None
    notes: dict[str, int] = {}
    rows = [
        tables.row(
            results,
            [
                tables.cell(tables.metric_of(results, LISTED, column.key), column, notes)
                for column in COLUMNS
            ],
        )
        for results in measured
    ]
    pairs, persons = tables.counts_of(measured[0], LISTED)
    about = f"{KINDS[LISTED].about}, {pairs} pairs, {persons} persons"
    group = {"title": KINDS[LISTED].title, "about": about, "rows": rows}
    return {"columns": tables.heads(COLUMNS), "groups": [group], "notes": notes}
