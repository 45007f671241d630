"""Where a finished run's files lie, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regaze.masks.background import faces_reader
from regaze.outputs import several
from regaze.provenance import versions
from regaze.report.across import DatasetEntry
from regaze.report.inputs import CEILING, FLOOR, EstimatorEntry, ModelEntry
from regaze.report.inverted import inverted_files
from regaze.report.page import write_report
from regaze.report.studies import StudyEntry

_OF_DATASETS = ("faces", "pairs", "rejected", "sheets", "masks")

MEASURES = "measures every picture of this report"
TRAINS = "for methods whose losses read gaze and head; measures nothing here"


def write_run(
    inputs: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    page: str | Path,
    table: str | Path,
    study: str | Path,
) -> None:
    """Write the page of a run whose files lie in ``results``.

    Args:
        inputs: files by name, lists or one alone: those of :func:`dataset_entries`, and
            ``estimators``, ``encoders``, ``inverted``, ``inverters`` (each with its picture),
            ``atlases``.
        params: ``datasets``, ``rows``, ``evaluator``, ``background``, ``settings``, ``study``
            (options of :class:`regaze.report.studies.StudyEntry`), ``kind``, ``inverted``
            (inverters by model).
        page, table, study: files to write, see :func:`regaze.report.page.write_report`.

    Raises:
        FileNotFoundError, ValueError: see the functions used.
    """
    datasets = dataset_entries(
        params["datasets"],
        results="results",
        **{name: params[name] for name in ("rows", "settings", "background")},
        **{name: inputs[name] for name in _OF_DATASETS},
    )
    write_report(
        *(page, table, datasets),
        estimators=estimator_entries(several(inputs["estimators"]), params["evaluator"]),
        encoders=several(inputs["encoders"]),
        config=params["settings"],
        versions=versions(),
        study=[StudyEntry(**entry) for entry in params["study"]],
        study_kind=params["kind"],
        inverted=inverted_files(params["inverted"], inputs.get("inverted")),
        inverters=several(inputs.get("inverters") or [])[::2],
        atlases=several(inputs.get("atlases") or []),
        out_study=study,
    )


def dataset_entries(
    names: Sequence[str],
    *,
    rows: Sequence[str],
    results: str | Path,
    settings: Mapping,
    faces: Sequence[str | Path],
    pairs: Sequence[str | Path],
    rejected: Sequence[str | Path],
    sheets: Sequence[str | Path] = (),
    masks: Sequence[str | Path] = (),
    background: Sequence[int] = (0, 0, 0),
) -> list[DatasetEntry]:
    """Sort a workflow's flat lists of files by data set.

    Args:
        names: data sets, the one trained on first.
        rows: names of models and pseudo-models, in the order of the table.
        results: folder of ``evaluation/<model>/<data set>/`` and ``models/<model>/``.
        settings: the whole configuration.
        faces: shards of all of them, each lying in ``<name>/faces/``.
        pairs, rejected, sheets: one file per data set, in the order of ``names``.
        masks: shards of those whose background was removed, each lying in ``<name>/masks/``.
        background: R, G, B that took its place.

    Raises:
        ValueError: a list has another length, or shards belong to no data set, or a data set has
            none, or they cannot be read.
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
    lists["sheets"] = lists["sheets"] or [None] * len(names)
    return [
        DatasetEntry(
            name,
            [_model(Path(results), row, name, settings) for row in rows],
            faces_reader(shards[name], masked[name], background),
            pair,
            [table],
            sheet,
        )
        for name, pair, table, sheet in zip(names, *lists.values(), strict=True)
    ]


def _model(results: Path, name: str, dataset: str, settings: Mapping) -> ModelEntry:
    evaluation = results / "evaluation" / name / dataset
    trained = None if name in (FLOOR, CEILING) else results / "models" / name
    return ModelEntry.from_folders(name, evaluation, trained, title=_title(name, settings))


def _title(name: str, settings: Mapping) -> str | None:
    """What a method is called that learnt from another data set than the others."""
    entry = settings.get("models", {}).get(name) or {}
    labelled = (entry.get("data") or {}).get("labelled")
    other = labelled not in (None, settings.get("dataset"))
    return f"{name} (trained on {labelled})" if other else None


def _by_dataset(names: Sequence[str], files: Sequence[str | Path], what: str) -> dict[str, list]:
    found: dict[str, list] = {name: [] for name in names}
    for path in files:
        name = Path(path).parents[1].name
        if name not in found:
            raise ValueError(f"{path}: expected {what} of {', '.join(names)}, found {name!r}")
        found[name].append(path)
    return found


def estimator_entries(records: Sequence[str | Path], evaluator: str) -> list[EstimatorEntry]:
    """Name what is told of estimators: their ``model.json``, ``curve.csv`` beside it, and why.

    Args:
        records: ``model.json`` of every estimator.
        evaluator: which of them measured.
    """
    found = []
    for record in map(Path, records):
        name, curve = record.parent.name, record.with_name("curve.csv")
        purpose = MEASURES if name == evaluator else TRAINS
        found.append(EstimatorEntry(name, record, curve if curve.exists() else None, purpose))
    return found
