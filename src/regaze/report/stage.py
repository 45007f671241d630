"""The report stage: from the workflow's folders to one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from regaze.provenance import git_revision, versions
from regaze.report.inputs import EstimatorEntry, ModelEntry
from regaze.report.page import write_report


def report_results(
    page: str | Path,
    table: str | Path,
    *,
    rows: Sequence[str],
    dataset: str,
    evaluator: str,
    settings: Mapping,
    estimators: Sequence[str],
    faces: Sequence[str],
    pairs: str,
    rejected: str,
    contact_sheet: str,
    results: str | Path = "results",
) -> None:
    """Write the page and the table of everything that was measured on one data set.

    Args:
        page: HTML to write.
        table: CSV to write.
        rows: names of models and pseudo-models in the order of the configuration.
        dataset: name of the data set.
        evaluator: name of the estimator that measured all of them.
        settings: the whole configuration, for the reader.
        estimators: ``model.json`` of every estimator.
        faces: shards of the data set.
        pairs: its pairs.
        rejected: its rejected rows.
        contact_sheet: its picture.
        results: root of the workflow's outputs.
    """
    results = Path(results)
    entries = []
    for name in rows:
        folder = results / "models" / name
        evaluation = results / "evaluation" / name / dataset
        entries.append(
            ModelEntry.from_folders(name, evaluation, folder if folder.exists() else None)
        )
    judges = []
    for record in map(Path, estimators):
        purpose = "evaluation of all methods" if record.parent.name == evaluator else "training"
        curve = record.with_name("curve.csv")
        judges.append(EstimatorEntry(record.parent.name, record, curve, purpose))
    write_report(
        page,
        table,
        models=entries,
        dataset=dataset,
        faces=faces,
        pairs=pairs,
        estimators=judges,
        rejected=[rejected],
        contact_sheet=contact_sheet,
        config=settings,
        versions={**versions(), "revision": git_revision()},
    )
