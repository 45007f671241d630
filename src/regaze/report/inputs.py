"""The files a report is made from, checked once and held in plain objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from regaze.factors import KINDS, current_kind
from regaze.normalise import rejections
from regaze.samples import Samples
from regaze.sources.records import some

FLOOR, CEILING = "truth", "copy"
"""Pseudo-models: the true target (lowest error that can be shown) and the unchanged source."""

_ROLES = {FLOOR: "floor", CEILING: "ceiling"}
_PER_PAIR = ("pair", "person", "kind")


@dataclass(frozen=True)
class ModelEntry:
    """Where the results of one method lie.

    Attributes:
        name: name of the model; ``truth`` and ``copy`` are the floor and the ceiling.
        metrics: ``metrics.json``; per kind of pair and metric either ``{"mean",
            "standard_error", "n", "interval": [low, high]}`` or ``{"value": null, "reason"}``.
        per_pair: ``per_pair.parquet`` with ``pair``, ``person``, ``kind`` and a column per metric.
        samples: ``samples.h5`` with ``pixels`` (P,H,W,3) uint8 and ``pair`` (P,).
        speed: ``speed.json`` with seconds per source and per request, and ``threads``, or None.
        model: ``model.json``, or None for pseudo-models.
        curve: ``curve.csv``, or None.
        title: name shown to readers; the model's name by default.
    """

    name: str
    metrics: Path
    per_pair: Path | None = None
    samples: Path | None = None
    speed: Path | None = None
    model: Path | None = None
    curve: Path | None = None
    title: str | None = None

    @classmethod
    def from_folders(
        cls, name: str, evaluation: str | Path, model: str | Path | None = None, **more
    ) -> ModelEntry:
        """Name the usual files below an evaluation folder and a model folder.

        Files that do not exist are left out, except ``metrics.json``, which must exist when the
        entry is loaded. ``more`` overrides single fields.
        """

        def present(folder, file):
            path = Path(folder) / file if folder is not None else None
            return path if path is not None and path.exists() else None

        paths = {
            "metrics": Path(evaluation) / "metrics.json",
            "per_pair": present(evaluation, "per_pair.parquet"),
            "samples": present(evaluation, "samples.h5"),
            "speed": present(evaluation, "speed.json"),
            "model": present(model, "model.json"),
            "curve": present(model, "curve.csv"),
        }
        return cls(name=name, **{**paths, **more})


@dataclass(frozen=True)
class EstimatorEntry:
    """A gaze and head estimator: its ``model.json``, ``curve.csv`` and what it is used for."""

    name: str
    model: Path
    curve: Path | None = None
    purpose: str = ""


@dataclass(frozen=True)
class Results:
    """The contents of a :class:`ModelEntry`; empty dictionaries and None where a file is absent.

    ``slot`` numbers the real methods from 0, which fixes their colours on the whole page;
    pseudo-models have -1.
    """

    entry: ModelEntry
    metrics: Mapping[str, Mapping[str, Mapping]]
    per_pair: pd.DataFrame | None
    samples: Samples | None
    speed: Mapping
    model: Mapping
    curve: pd.DataFrame | None
    slot: int = -1

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.entry.name

    @property
    def title(self) -> str:
        """Name shown to readers; that of a bound says so wherever it stands."""
        name = self.entry.title or self.entry.name
        if self.reconstructs:
            return f"{name} (reconstruction)"
        return f"{name} (upper bound)" if self.upper_bound else name

    @property
    def upper_bound(self) -> bool:
        """Whether it is told the target photo's own 3-D code, which shows what it has to make."""
        return self.model.get("config", {}).get("deca", {}).get("target_code") == "target"

    @property
    def reconstructs(self) -> bool:
        """Whether it edits nothing and draws its source again, which bounds those built on it."""
        return bool(self.model.get("reconstructs"))

    @property
    def competes(self) -> bool:
        """Whether it is a method that may be the best one."""
        return self.role == "method" and not self.upper_bound and not self.reconstructs

    @property
    def role(self) -> str:
        """``method``, ``floor`` or ``ceiling``."""
        return _ROLES.get(self.name, "method")


def read_results(entries: Sequence[ModelEntry]) -> list[Results]:
    """Read the files of all entries, methods in the given order, the floor first, ceiling last.

    Raises:
        FileNotFoundError: a named file does not exist.
        ValueError: two entries share a name, or a file's content is not as described in
            :class:`ModelEntry`; the message names file, field, expectation and finding.
    """
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"models: {twice[0]!r} is listed {names.count(twice[0])} times")
    order = {"floor": 0, "method": 1, "ceiling": 2}
    loaded, slot = [], 0
    for entry in sorted(entries, key=lambda e: order[_ROLES.get(e.name, "method")]):
        method = entry.name not in _ROLES
        loaded.append(
            Results(
                entry=entry,
                metrics=read_metrics(entry.metrics),
                per_pair=None if entry.per_pair is None else read_per_pair(entry.per_pair),
                samples=None if entry.samples is None else Samples(entry.samples),
                speed={} if entry.speed is None else read_mapping(entry.speed),
                model={} if entry.model is None else read_mapping(entry.model),
                curve=None if entry.curve is None else read_curve(entry.curve),
                slot=slot if method else -1,
            )
        )
        slot += method
    return loaded


def read_mapping(path: str | Path) -> dict:
    """Read a JSON file that must hold an object.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not an object.
    """
    path = _existing(path, "results")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


PERTURBED = "perturbed"
"""Section of ``metrics.json`` beside the kinds of pairs: induced errors of random turns."""


def read_metrics(path: str | Path) -> dict[str, dict[str, dict]]:
    """Read ``metrics.json``; its kinds of pair are returned, and :data:`PERTURBED`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a metric has neither a finite ``mean`` nor a null ``value`` with a ``reason``.
    """
    content = read_mapping(path)
    sections = {current_kind(name): value for name, value in content.get("kinds", content).items()}
    found: dict[str, dict[str, dict]] = {}
    for kind in (*KINDS, PERTURBED):
        if kind not in sections:
            continue
        if not isinstance(sections[kind], dict):
            raise ValueError(f"{path}: {kind}: expected an object of metrics")
        found[kind] = {}
        for name, value in sections[kind].items():
            if not isinstance(value, dict):
                continue  # counts such as "pairs" stand beside the metrics
            mean = value.get("mean", value.get("value"))
            if mean is None and not value.get("reason"):
                raise ValueError(
                    f"{path}: {kind}.{name}: expected 'mean', or a null 'value' with 'reason'; "
                    f"found keys {sorted(value)}"
                )
            if mean is not None and not np.isfinite(mean):
                raise ValueError(f"{path}: {kind}.{name}.mean: expected a number, found {mean}")
            found[kind][name] = {**value, "mean": mean}
    return found


def read_per_pair(path: str | Path) -> pd.DataFrame:
    """Read ``per_pair.parquet``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one of the columns ``pair``, ``person``, ``kind`` is missing.
    """
    table = pd.read_parquet(_existing(path, "per-pair results"))
    missing = [name for name in _PER_PAIR if name not in table]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; found {sorted(table)}")
    return table.assign(kind=table["kind"].map(current_kind))


def read_curve(path: str | Path) -> pd.DataFrame:
    """Read ``curve.csv``.

    Of a training in phases, whose columns are ``<phase>/loss``, ``loss`` is that of the last phase
    that has one in most rows: of the network that is saved for use, and no lazy term's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: there is no ``step`` or no ``loss`` column.
    """
    table = pd.read_csv(_existing(path, "training curve"))
    phases = [name for name in table if name.endswith("/loss")]
    if "loss" not in table and phases:
        counts = table[phases].notna().sum()
        table["loss"] = table[counts.index[counts == counts.max()][-1]]
    missing = [name for name in ("step", "loss") if name not in table]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; found {sorted(table)}")
    return table


def read_rejected(paths: Sequence[str | Path]) -> tuple[pd.DataFrame, list[str]]:
    """Read tables of rejected rows as one, with sentences about persons of whom nothing was kept.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no table of :mod:`regaze.normalise.rejections`.
    """
    tables, sentences = [rejections.SCHEMA.empty_table()], []
    for path in paths:
        table, counts = rejections.read_rejected(_existing(path, "rejected rows"))
        tables.append(table.replace_schema_metadata(None))
        sentences += [f"{counts.lost_words}."] if counts.lost else []
        sentences += [
            f"Persons left out, {why} ({len(names):,}): {some(names)}."
            for why, names in counts.left_out.items()
        ]
    return pa.concat_tables(tables).to_pandas(), sentences


def _existing(path: str | Path, what: str) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such {what} file")
    return path
