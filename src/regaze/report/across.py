"""Data sets that no method was trained on: a part of the page for each, and the table across all.

A foreign data set may lack what the embedded one has: pairs of some kinds, landmarks, samples. What
is missing is said, with its reason; nothing is put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from regaze.faces import FacesReader
from regaze.factors import FACTORS, GAZE_AND_HEAD, KINDS
from regaze.metrics.bootstrap import bootstrap_mean
from regaze.pairs import read_pairs
from regaze.report import sections, tables
from regaze.report.inputs import ModelEntry, Results, read_rejected, read_results
from regaze.report.verdict import Verdict, verdict

_FIRST = next(iter(FACTORS.values()))
_ERROR = tables.ERRORS[_FIRST.name]
_ACROSS = tuple(
    (kind, KINDS[kind].title.lower()) for kind in (f"{_FIRST.name}_only", GAZE_AND_HEAD)
)


@dataclass(frozen=True)
class DatasetEntry:
    """Files of one data set and of what every method made of it.

    Attributes:
        name: name of the data set.
        models: the methods' files, with ``truth`` and ``copy`` among them.
        faces: its faces files or an open reader.
        pairs: its pairs file or table.
        rejected: tables of rejected rows.
        contact_sheet: picture of the normalised faces, or None.
    """

    name: str
    models: Sequence[ModelEntry]
    faces: FacesReader | str | Path | Sequence[str | Path]
    pairs: str | Path | pd.DataFrame
    rejected: Sequence[str | Path] = ()
    contact_sheet: str | Path | None = None

    def loaded(self) -> LoadedDataset:
        """Open the files.

        Raises:
            FileNotFoundError, ValueError: a file is missing or not as described in
                :mod:`regaze.report.inputs`; the message names the data set too.
        """
        try:
            reader = self.faces if isinstance(self.faces, FacesReader) else FacesReader(self.faces)
            table = self.pairs if isinstance(self.pairs, pd.DataFrame) else read_pairs(self.pairs)
            results, rejected = read_results(self.models), read_rejected(self.rejected)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"data set {self.name}: {error}") from error
        return LoadedDataset(self, reader, table, results, *rejected)


@dataclass(frozen=True)
class LoadedDataset:
    """The contents of a :class:`DatasetEntry`; ``rejected`` is a table of rejected rows,
    ``losses`` are sentences about persons."""

    entry: DatasetEntry
    faces: FacesReader
    pairs: pd.DataFrame
    results: Sequence[Results]
    rejected: pd.DataFrame = field(repr=False)
    losses: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.entry.name

    @property
    def anchor(self) -> str:
        """Name of its section on the page, safe in an address."""
        return "on-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in self.name)


def foreign_part(data: LoadedDataset, home: LoadedDataset, rows: int) -> dict:
    """Return what the page says of a data set that nothing was trained on.

    Args:
        data: the data set.
        home: the data set that methods were trained on; its numbers stand beside.
        rows: pictures in the grid of examples.
    """
    table = sections.comparison_table(
        data.results, costs=False, home={r.name: r for r in home.results}
    )
    grid = next(iter(_example_grids(data, rows)), None)
    no_grid = ""
    if grid is None:
        sampled = any(r.samples is not None for r in data.results if r.role == "method")
        no_grid = "there are no pairs with a true image" if sampled else "no method has samples"
    empty = tables.empty_kinds(data.results)
    listed = {kind for r in data.results for kind in tables.KINDS if kind in r.metrics}
    some = bool(listed - empty.keys())
    return {
        "name": data.name,
        "anchor": data.anchor,
        "verdict": verdict(data.results),
        "table": table,
        "not_measured": tables.null_metrics(data.results) if some else {},
        "grid": grid,
        "no_grid": no_grid,
        **sections.data_part(data, 1400),
    }


def _example_grids(data: LoadedDataset, rows: int):
    """Yield the grid of the first kind that has pairs."""
    for kind in tables.KINDS:
        if (data.pairs["kind"] == kind).any():
            yield from sections.grid_sections(
                data.results, data.faces, data.pairs, rows, kinds=[kind]
            )
            return


def cross_table(sets: Sequence[LoadedDataset]) -> dict:
    """Return errors of the first factor: every method on every data set, the home set first.

    Columns are data set and kind of pairs, without those that no method has a number of. Rows are
    the methods between floor and ceiling, and one for the estimator alone: its error on the
    source photos against their own labels.
    """
    columns = [
        (data, kind, words)
        for data in sets
        for kind, words in _ACROSS
        if any(tables.metric_of(r, kind, _ERROR.key)["mean"] is not None for r in data.results)
    ]
    notes: dict[str, int] = {}
    marks = [tables.best_methods(data.results, kind, _ERROR) for data, kind, _ in columns]
    by_name = [{r.name: r for r in data.results} for data, _, _ in columns]
    rows = []
    for results in sets[0].results:
        cells = []
        for (data, kind, _), named, mark in zip(columns, by_name, marks, strict=True):
            found = named.get(results.name)
            value = (
                {"mean": None, "reason": f"not evaluated on {data.name}"}
                if found is None
                else tables.metric_of(found, kind, _ERROR.key)
            )
            cells.append(tables.cell(value, _ERROR, notes, tables.marked(results.name, mark)))
        rows.append(tables.row(results, cells))
    alone = {data.name: estimator_alone(data) for data in sets}
    cells = [tables.cell(alone[data.name], _ERROR, notes) for data, _, _ in columns]
    if columns:
        title = "estimator alone, on the sources"
        rows.append({"title": title, "role": "floor", "slot": -1, "cells": cells})
    spans: list[dict] = []
    for data, _, _ in columns:
        if not spans or spans[-1]["name"] != data.name:
            spans.append({"name": data.name, "home": data is sets[0], "columns": 0})
        spans[-1]["columns"] += 1
    missing = [
        f"{data.name}, {words}: {tables.empty_kinds(data.results).get(kind, 'not measured')}"
        for data in sets
        for kind, words in _ACROSS
        if not any(kind == k and data is d for d, k, _ in columns)
    ]
    return {
        "spans": spans,
        "kinds": [words for _, _, words in columns],
        "rows": rows,
        "notes": notes,
        "missing": missing,
    }


def estimator_alone(data: LoadedDataset) -> dict:
    """Return what the estimator itself misses of the first factor on the unchanged source photos.

    Against their own labels; every source photo counts once. The result is like a metric of
    ``metrics.json``; ``mean`` is None with a ``reason`` when the results of ``copy`` do not tell
    what was read.
    """
    copy = next((r for r in data.results if r.role == "ceiling"), None)
    needed, label = _FIRST.readings, f"source_{_FIRST.name}"
    if copy is None or copy.per_pair is None or not set(needed) <= set(copy.per_pair):
        return {"mean": None, "reason": "no readings of the unchanged source were kept"}
    columns = ["pair", "person", "source_index", label]
    read = copy.per_pair[["pair", *needed]].merge(data.pairs[columns], on="pair")
    read = read.drop_duplicates(["person", "source_index"])
    labels = np.stack(read[label].to_list()) if len(read) else np.zeros((0, len(needed)))
    known = np.isfinite(labels).all(1) & read[list(needed)].notna().all(axis=1).to_numpy()
    if not known.any():
        return {"mean": None, "reason": f"no source photo has a known {_FIRST.name}"}
    values = read[list(needed)].to_numpy(float)[known]
    error = _FIRST.difference(values, labels[known].astype(float))
    found = bootstrap_mean(error, read["person"].to_numpy(str)[known])
    interval = None if found.low is None else [found.low, found.high]
    return {"mean": found.mean, "interval": interval, "n": found.n}


def transfer_sentences(sets: Sequence[LoadedDataset]) -> tuple[str, ...]:
    """Return one sentence per foreign data set: what is left of the best method's accuracy."""
    home, said = sets[0], []
    for data in sets[1:]:
        found = _best_there(data)
        if found is None:
            said.append(f"On {data.name} no {_FIRST.name} error could be measured for any method.")
            continue
        kind, best = found
        value = tables.metric_of(best, kind, _ERROR.key)["mean"]
        text = f"On {data.name}, never trained on, {best.title} misses by {_said(value)}"
        same = next((r for r in home.results if r.name == best.name), None)
        there = None if same is None else tables.metric_of(same, kind, _ERROR.key)["mean"]
        words = KINDS[kind].title.lower()
        text += f" ({words} pairs" + ("" if there is None else f"; {_said(there)} on {home.name}")
        bounds = {
            r.role: tables.metric_of(r, kind, _ERROR.key)["mean"]
            for r in data.results
            if r.role != "method"
        }
        for role, what in (("ceiling", "source"), ("floor", "true image")):
            if bounds.get(role) is not None:
                text += f"; {what} {_said(bounds[role])}"
        said.append(text + ").")
    return tuple(said)


def _said(value: float) -> str:
    return f"{value:.1f}{_FIRST.unit}"


def _best_there(data: LoadedDataset) -> tuple[str, Results] | None:
    for kind in (GAZE_AND_HEAD, f"{_FIRST.name}_only"):
        known = [
            (tables.metric_of(r, kind, _ERROR.key)["mean"], number, r)
            for number, r in enumerate(data.results)
            if r.competes
        ]
        known = [entry for entry in known if entry[0] is not None]
        if known:
            return kind, min(known)[2]
    return None


def with_details(found: Verdict, more: Sequence[str]) -> Verdict:
    """Return a verdict with further sentences."""
    return Verdict(found.headline, (*found.details, *more))
