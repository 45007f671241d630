"""Methods that edit codes of an inverter, compared with its inversions: a table of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regaze.factors import FACTORS, KINDS
from regaze.outputs import several
from regaze.report import tables
from regaze.report.inputs import Results, read_mapping, read_metrics
from regaze.report.sections import contact_sheet_uri
from regaze.report.tables import Column

_READ = ("gaze", "head")
COLUMNS = (
    *(
        Column(
            FACTORS[name].column("vs_truth"),
            f"{FACTORS[name].title} difference",
            FACTORS[name].unit,
            2,
            "lower",
            f"{name} that the estimator reads in the picture, against the {name} that it reads in "
            "the inversion of the true picture",
        )
        for name in _READ
    ),
    Column("psnr", "PSNR", "dB", 1, "higher", "against the inversion of the true picture"),
    Column("eye_psnr", "Eye PSNR", "dB", 1, "higher", "the same inside the eye boxes"),
    Column("lpips", "LPIPS", "", 3, "lower", "against the inversion of the true picture"),
    Column(
        "identity_similarity_source",
        "Identity",
        "",
        3,
        "higher",
        "against the inversion of the source",
    ),
    Column(
        "frechet_estimator",
        "Fréchet",
        "",
        1,
        "lower",
        "distance between the pictures and the inversions of the true ones, in features of the "
        "estimator",
    ),
)


@dataclass(frozen=True)
class InvertedEntry:
    """Where a method's measurement against inversions lies.

    Attributes:
        inverter: name of the model whose inversions they are.
        metrics: ``metrics.json``.
    """

    inverter: str
    metrics: Path


def inverted_files(
    inverters: Mapping[str, str], metrics: Sequence[str | Path] | None
) -> dict[str, InvertedEntry]:
    """Entries by model of a rule's flat list, a file per model of ``inverters``."""
    pairs = zip(inverters.items(), several(metrics or []), strict=True)
    return {model: InvertedEntry(other, Path(path)) for (model, other), path in pairs}


def inverted_section(
    all_results: Sequence[Results], entries: Mapping[str, InvertedEntry]
) -> dict | None:
    """Columns and rows as :func:`regaze.report.sections.comparison_table` has; None without any.

    Columns without a value are left out.

    Raises:
        FileNotFoundError, ValueError: a file is missing or not as described.
    """
    by_name = {results.name: results for results in all_results}
    found = {name: read_metrics(one.metrics) for name, one in entries.items() if name in by_name}
    columns = [
        column
        for column in COLUMNS
        if any(
            _value(one, kind, column)["mean"] is not None
            for one in found.values()
            for kind in tables.KINDS
        )
    ]
    if not columns:
        return None
    notes: dict[str, int] = {}
    groups = []
    for kind in tables.KINDS:
        rows = [
            tables.row(
                by_name[name],
                [tables.cell(_value(metrics, kind, column), column, notes) for column in columns],
                f"inversions of {entries[name].inverter}",
            )
            for name, metrics in found.items()
            if any(_value(metrics, kind, column)["mean"] is not None for column in columns)
        ]
        if rows:
            groups.append({"title": KINDS[kind].title, "about": KINDS[kind].about, "rows": rows})
    return {"columns": tables.heads(columns), "groups": groups, "notes": notes}


def _value(metrics: Mapping, kind: str, column: Column) -> dict:
    absent = {"mean": None, "reason": tables.NOT_MEASURED}
    return dict(metrics.get(kind, {}).get(column.key, absent))


def inverter_parts(files: Sequence[str | Path]) -> list[dict]:
    """Sheet and words about every inverter, of its ``inverter.json``.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or no JSON object.
    """
    found = []
    for path in map(Path, files):
        told = read_mapping(path)
        words = (
            f"{told['faces']:,} faces: PSNR {told['psnr']:.1f} dB, in the eye boxes "
            f"{told['eye_psnr']:.1f} dB. Fréchet distance to them in features of the estimator: "
            f"inversions {told['frechet']['inversions']:.1f}, as many pictures of chance "
            f"{told['frechet']['chance']:.1f}."
        )
        words += (
            f" {told['warning'][:1].upper()}{told['warning'][1:]}." if "warning" in told else ""
        )
        uri = contact_sheet_uri(path.with_suffix(".png"))
        found.append({"name": path.parents[1].name, "words": words, "uri": uri})
    return found
