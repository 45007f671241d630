"""The report stage: where a finished run's files lie, handed to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regaze.faces import FacesReader
from regaze.factors import GAZE_AND_HEAD
from regaze.masks.background import faces_reader
from regaze.outputs import several
from regaze.pairs import read_pairs
from regaze.provenance import versions
from regaze.report.across import DatasetEntry
from regaze.report.grids import redirection_grid
from regaze.report.inputs import CEILING, FLOOR, EstimatorEntry, ModelEntry
from regaze.report.page import write_report
from regaze.report.studies import StudyEntry
from regaze.report.sweeps import sweep_animation
from regaze.report.tables import KINDS

MEASURES = "measures every picture of this report"
TRAINS = "for methods whose losses read gaze and head; measures nothing here"


@dataclass(frozen=True)
class DatasetInputs:
    """Where the files of one data set lie; the table of its results is found by its name.

    Attributes:
        name: name of the data set, as in ``results/evaluation/<model>/<name>``.
        faces: shards of its faces.
        pairs: its pairs file.
        rejected: table or tables of rejected rows.
        contact_sheet: picture of its normalised faces, or None.
        masks: shards of its masks where the background was removed before redirecting.
        background: R, G, B that took the background's place.
    """

    name: str
    faces: Sequence[str | Path]
    pairs: str | Path
    rejected: str | Path | Sequence[str | Path]
    contact_sheet: str | Path | None = None
    masks: Sequence[str | Path] = ()
    background: Sequence[int] = (0, 0, 0)


def dataset_inputs(
    names: Sequence[str],
    *,
    faces: Sequence[str | Path],
    pairs: Sequence[str | Path],
    rejected: Sequence[str | Path],
    sheets: Sequence[str | Path] = (),
    masks: Sequence[str | Path] = (),
    background: Sequence[int] = (0, 0, 0),
) -> list[DatasetInputs]:
    """Sort a workflow's flat lists of files by data set.

    Args:
        names: data sets, the one trained on first.
        faces: shards of all of them, each lying in ``<name>/faces/``.
        pairs, rejected, sheets: one file per data set, in the order of ``names``.
        masks: shards of those whose background was removed, each lying in ``<name>/masks/``.
        background: R, G, B that took its place.

    Raises:
        ValueError: a list has another length, or shards belong to no data set, or a data set has
            none.
    """
    lists = {"pairs": several(pairs), "rejected": several(rejected), "sheets": several(sheets)}
    for what, files in lists.items():
        if len(files) != len(names) and (files or what != "sheets"):
            raise ValueError(
                f"{what}: expected {len(names)} files, one each of {', '.join(names)}, "
                f"found {len(files)}"
            )
    shards = _by_dataset(names, several(faces), "faces")
    masked = _by_dataset(names, several(masks), "masks")
    for name, files in shards.items():
        if not files:
            raise ValueError(f"faces: expected shards in {name}/faces/, found none")
    sheets_or_none = lists["sheets"] or [None] * len(names)
    columns = (lists["pairs"], lists["rejected"], sheets_or_none)
    return [
        DatasetInputs(name, shards[name], pair, table, sheet, masked[name], background)
        for name, pair, table, sheet in zip(names, *columns, strict=True)
    ]


def _by_dataset(names: Sequence[str], files: Sequence[str | Path], what: str) -> dict[str, list]:
    found: dict[str, list] = {name: [] for name in names}
    for path in files:
        name = Path(path).parents[1].name
        if name not in found:
            raise ValueError(f"{path}: expected {what} of {', '.join(names)}, found {name!r}")
        found[name].append(path)
    return found


def report_results(
    out_html: str | Path,
    out_csv: str | Path,
    *,
    rows: Sequence[str],
    datasets: Sequence[DatasetInputs],
    evaluator: str,
    settings: Mapping,
    estimators: Sequence[str | Path],
    encoders: Sequence[str | Path] = (),
    results: str | Path | None = None,
    left_out: Mapping[str, str] | None = None,
    remarks: Sequence[str] = (),
    pictures: str | Path | None = None,
    study: Sequence[Mapping] = (),
    study_kind: str = GAZE_AND_HEAD,
    out_study: str | Path | None = None,
) -> None:
    """Write the page and the table of a run whose files lie as the workflow lays them.

    Args:
        out_html: page to write.
        out_csv: table to write.
        rows: names of models and pseudo-models, in the order of the table.
        datasets: the data set that the methods were trained on, then those that they were only
            evaluated on.
        evaluator: which of the estimators measured.
        settings: the whole configuration, shown in the page.
        estimators: ``model.json`` of every estimator; ``curve.csv`` is sought beside it.
        encoders: ``model.json`` of every 3-D face encoder that was trained.
        results: folder of ``evaluation/`` and ``models/``; by default two above the page.
        left_out: methods that were not run, with the reason.
        remarks: sentences shown above the configuration.
        pictures: folder to write grids (PNG) and sweeps (GIF) into, for use outside the page;
            those of further data sets go into folders of their names in it.
        study: fields of :class:`regaze.report.studies.StudyEntry` for every variant of sampling.
        study_kind: kind of pairs that the variants are compared on.
        out_study: table of the variants to write.

    Raises:
        ValueError: no data set is given.
        FileNotFoundError, ValueError: an input is missing or not as described in
            :func:`regaze.report.page.write_report`.
    """
    root = Path(out_html).parents[1] if results is None else Path(results)
    if not datasets:
        raise ValueError("datasets: expected at least the one trained on, found none")
    home, *foreign = (_entry(one, rows, root, settings) for one in datasets)
    write_report(
        out_html,
        out_csv,
        models=home.models,
        dataset=home.name,
        faces=home.faces,
        pairs=home.pairs,
        estimators=[_estimator(Path(path), evaluator) for path in estimators],
        encoders=encoders,
        rejected=home.rejected,
        contact_sheet=home.contact_sheet,
        foreign=foreign,
        config=settings,
        versions=versions(),
        left_out=left_out,
        remarks=remarks,
        study=[StudyEntry(**entry) for entry in study],
        study_kind=study_kind,
        out_study=out_study,
    )
    if pictures is not None:
        write_pictures(pictures, home.models, home.faces, home.pairs)
        for one in foreign:
            write_pictures(Path(pictures) / one.name, one.models, one.faces, one.pairs)


def _entry(one: DatasetInputs, rows: Sequence[str], root: Path, settings: Mapping) -> DatasetEntry:
    models = [
        ModelEntry.from_folders(
            name,
            root / "evaluation" / name / one.name,
            None if name in (FLOOR, CEILING) else root / "models" / name,
            title=_title(name, settings),
        )
        for name in rows
    ]
    reader = faces_reader(several(one.faces), list(one.masks), one.background)
    pairs = read_pairs(one.pairs)
    rejected = several(one.rejected)
    return DatasetEntry(one.name, models, reader, pairs, rejected, one.contact_sheet)


def _title(name: str, settings: Mapping) -> str | None:
    """What a method is called that learnt from another data set than the others."""
    entry = settings.get("models", {}).get(name) or {}
    labelled = (entry.get("data") or {}).get("labelled")
    other = labelled not in (None, settings.get("dataset"))
    return f"{name} (trained on {labelled})" if other else None


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
