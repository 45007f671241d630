"""The report stage: where a finished run's files lie, handed to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from regaze.faces import FacesReader
from regaze.pairs import read_pairs
from regaze.provenance import versions
from regaze.report.grids import redirection_grid
from regaze.report.inputs import CEILING, FLOOR, EstimatorEntry, ModelEntry
from regaze.report.page import write_report
from regaze.report.sweeps import sweep_animation
from regaze.report.tables import KINDS

MEASURES = "measures every picture of this report"
TRAINS = "for methods whose losses read gaze and head; measures nothing here"


def report_results(
    out_html: str | Path,
    out_csv: str | Path,
    *,
    rows: Sequence[str],
    dataset: str,
    evaluator: str,
    settings: Mapping,
    estimators: Sequence[str | Path],
    faces: Sequence[str | Path],
    pairs: str | Path,
    rejected: str | Path | Sequence[str | Path],
    contact_sheet: str | Path | None = None,
    results: str | Path | None = None,
    left_out: Mapping[str, str] | None = None,
    remarks: Sequence[str] = (),
    pictures: str | Path | None = None,
) -> None:
    """Write the page and the table of a run whose files lie as the workflow lays them.

    Args:
        out_html: page to write.
        out_csv: table to write.
        rows: names of models and pseudo-models, in the order of the table.
        dataset: name of the data set.
        evaluator: which of the estimators measured.
        settings: the whole configuration, shown in the page.
        estimators: ``model.json`` of every estimator; ``curve.csv`` is sought beside it.
        faces: shards of the faces.
        pairs: the pairs file.
        rejected: table or tables of rejected rows.
        contact_sheet: picture of the normalised faces.
        results: folder of ``evaluation/`` and ``models/``; by default two above the page.
        left_out: methods that were not run, with the reason.
        remarks: sentences shown above the configuration.
        pictures: folder to write grids (PNG) and sweeps (GIF) into, for use outside the page.

    Raises:
        FileNotFoundError, ValueError: an input is missing or not as described in
            :func:`regaze.report.page.write_report`.
    """
    root = Path(out_html).parents[1] if results is None else Path(results)
    models = [
        ModelEntry.from_folders(
            name,
            root / "evaluation" / name / dataset,
            None if name in (FLOOR, CEILING) else root / "models" / name,
        )
        for name in rows
    ]
    reader, table = FacesReader(list(faces)), read_pairs(pairs)
    write_report(
        out_html,
        out_csv,
        models=models,
        dataset=dataset,
        faces=reader,
        pairs=table,
        estimators=[_estimator(Path(path), evaluator) for path in estimators],
        rejected=[rejected] if isinstance(rejected, str | Path) else list(rejected),
        contact_sheet=contact_sheet,
        config=settings,
        versions=versions(),
        left_out=left_out,
        remarks=remarks,
    )
    if pictures is not None:
        write_pictures(pictures, models, reader, table)


def write_pictures(
    folder: str | Path, models: Sequence[ModelEntry], reader: FacesReader, pairs
) -> None:
    """Write ``grid-<kind>.png``, ``sweep-<model>.gif`` and ``sweep-all.gif`` into a folder.

    Kinds without pairs and models without samples are passed over.
    """
    folder = Path(folder)
    shown = {
        entry.name: entry.samples
        for entry in models
        if entry.samples is not None and entry.name not in (FLOOR, CEILING)
    }
    errors = {entry.name: entry.per_pair for entry in models if entry.per_pair is not None}
    present = set(pairs["kind"])
    for kind in KINDS:
        if shown and kind in present:
            out = folder / f"grid-{kind}.png"
            redirection_grid(reader, pairs, shown, out, kind=kind, per_pair_by_model=errors)
    if "sweep" in present:
        for name, samples in shown.items():
            sweep_animation(reader, pairs, {name: samples}, folder / f"sweep-{name}.gif")
        if len(shown) > 1:
            sweep_animation(reader, pairs, shown, folder / "sweep-all.gif", max_bytes=2_000_000)


def _estimator(record: Path, evaluator: str) -> EstimatorEntry:
    name = record.parent.name
    curve = record.with_name("curve.csv")
    purpose = MEASURES if name == evaluator else TRAINS
    return EstimatorEntry(name, record, curve if curve.exists() else None, purpose)
