"""What steps and guidance buy: the same pairs sampled in several ways, as figures, table and CSV.

Every variant is measured like any other result. Means and intervals are taken from the per-pair
tables, so that the lines of the true image and of the unchanged source are of the same pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from regaze.faces import FacesReader
from regaze.factors import KINDS
from regaze.report import figures, grids, sections, tables
from regaze.report.inputs import Results, read_mapping, read_metrics, read_per_pair
from regaze.report.settings import REFERENCE, axis_of
from regaze.report.statistics import paired_difference, person_interval
from regaze.samples import Samples

AXES = {
    "steps": ("Steps", "solver steps"),
    "weight": ("Guidance", "guidance weight"),
}
"""Per axis the heading and the label of the x axis."""
_LIKENESS = "identity"
_KEYS = ("dataset", "model", "variant", "axis", "value", "scope")
_NO_IDENTITY = "no metric of identity was measured in this run"


@dataclass(frozen=True)
class StudyEntry:
    """Where the results of one variant of one model lie.

    Attributes:
        model: name of the model.
        variant: name of the variant, e.g. ``steps4`` or ``w1.0``.
        changes: what differs from the sampling of the run.
        folder: folder with ``samples.h5``, ``speed.json``, ``metrics.json``, ``per_pair.parquet``.
        all_pairs: whether it was sampled for all pairs, and not for those of the study.
    """

    model: str
    variant: str
    changes: Mapping
    folder: str | Path
    all_pairs: bool = False


@dataclass(frozen=True)
class Variant:
    """The contents of a :class:`StudyEntry`; ``axis`` is ``steps``, ``weight`` or ``reference``."""

    model: str
    name: str
    axis: str
    value: float
    scope: str
    per_pair: pd.DataFrame
    samples: Samples
    speed: Mapping
    metrics: Mapping

    @property
    def title(self) -> str:
        """The variant as it is printed."""
        if self.axis == REFERENCE:
            return f"{self.samples.attributes.get('sampler', REFERENCE)}, {self.value:g} steps"
        if self.axis == "weight":
            return f"weight {self.value:g}"
        return f"{self.value:g} step" + ("s" if self.value != 1 else "")


def load_variants(entries: Sequence[StudyEntry], kind: str) -> list[Variant]:
    """Read the files of all entries, per-pair tables reduced to one kind of pairs.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described in :mod:`regaze.report.inputs`, or holds no pair of
            the kind.
    """
    loaded = []
    for entry in entries:
        folder = Path(entry.folder)
        per_pair = read_per_pair(folder / "per_pair.parquet")
        part = per_pair[per_pair["kind"] == kind]
        if not len(part):
            raise ValueError(f"{folder / 'per_pair.parquet'}: expected {kind} pairs, found none")
        axis, value = axis_of(entry.variant, entry.changes)
        loaded.append(
            Variant(
                model=entry.model,
                name=entry.variant,
                axis=axis,
                value=value,
                scope="all" if entry.all_pairs else "study",
                per_pair=part,
                samples=Samples(folder / "samples.h5"),
                speed=read_mapping(folder / "speed.json"),
                metrics=read_metrics(folder / "metrics.json"),
            )
        )
    return loaded


def identity_column(variants: Sequence[Variant]) -> tuple[str | None, str]:
    """Return the per-pair column of identity that has numbers, or None and the reason why none."""
    reasons = []
    for variant in variants:
        for name in sorted(variant.per_pair):
            if _LIKENESS in name and variant.per_pair[name].notna().any():
                return name, ""
        for section in variant.metrics.values():
            reasons += [
                str(value["reason"])
                for name, value in section.items()
                if _LIKENESS in name and value["mean"] is None and value.get("reason")
            ]
    return None, (reasons or [_NO_IDENTITY])[0]


def measures(variants: Sequence[Variant]) -> list[tables.Column]:
    """Return the metrics of the study: every factor's error, identity where it was measured."""
    measured = {name for variant in variants for name in variant.per_pair}
    found = [*tables.measured_columns(tables.ERRORS.values(), measured)]
    identity, _ = identity_column(variants)
    if identity is not None:
        better = "lower" if "distance" in identity or "deg" in identity else "higher"
        meaning = "likeness of the person, as a face recognition network sees it"
        found.append(tables.Column(identity, "Identity", "", 3, better, meaning))
    return found


def study_table(
    variants: Sequence[Variant],
    results: Sequence[Results],
    kind: str,
    dataset: str,
) -> pd.DataFrame:
    """Return one row per variant, and the true image and the source on the same pairs.

    Args:
        variants: of all models.
        results: the rows of the report; gives the pseudo-models, and of every model the sampling
            that the variants are compared with.
        kind: kind of pairs.
        dataset: name of the data set.

    Returns:
        Columns ``dataset, model, variant, axis, value, scope, kind, pairs, persons``, per metric
        its mean, ``_low``, ``_high`` (95 %, by persons) and ``_minus_own`` with ``_low`` and
        ``_high`` (the same of the paired difference from the run's own sampling, on common pairs),
        ``sampler``, ``evaluations_per_image``, ``seconds_per_source``, ``seconds_per_request``.
    """
    own = {r.name: r for r in results if r.per_pair is not None}
    columns = measures(variants)
    rows = []
    for variant in variants:
        base = own.get(variant.model)
        which = (dataset, variant.model, variant.name, variant.axis, variant.value, variant.scope)
        row: dict = dict(zip(_KEYS, which, strict=True))
        row |= _scores(variant.per_pair, columns, kind)
        for column in columns:
            difference = (np.nan,) * 3
            if base is not None:
                difference = paired_difference(variant.per_pair, base.per_pair, column.key, kind)
            row |= dict(zip(_ends(f"{column.key}_minus_own"), difference, strict=True))
        row["sampler"] = str(variant.samples.attributes.get("sampler", ""))
        row["evaluations_per_image"] = variant.samples.attributes.get("evaluations_per_image")
        for cost in ("seconds_per_source", "seconds_per_request"):
            row[cost] = variant.speed.get(cost)
        rows.append(row)
    for scope in dict.fromkeys(v.scope for v in variants):
        # The reference may have been sampled for fewer pairs than the rest.
        seen = [v.per_pair["pair"] for v in variants if v.scope == scope and v.axis != REFERENCE]
        pairs = set(pd.concat(seen)) if seen else set()
        for bound in (r for r in results if r.role != "method" and r.per_pair is not None):
            part = bound.per_pair[bound.per_pair["pair"].isin(pairs)]
            if len(part):
                row = {"dataset": dataset, "model": bound.name, "variant": "", "axis": bound.role}
                rows.append(row | {"scope": scope} | _scores(part, columns, kind))
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*_KEYS, "kind"])


def _scores(per_pair: pd.DataFrame, columns: Sequence[tables.Column], kind: str) -> dict:
    persons = per_pair["person"]
    row: dict = {"kind": kind, "pairs": len(per_pair), "persons": int(persons.nunique())}
    for column in columns:
        values = np.full(len(per_pair), np.nan)
        if column.key in per_pair:
            values = per_pair[column.key].to_numpy(float)
        row |= dict(zip(_ends(column.key), person_interval(values, persons), strict=True))
    return row


def _ends(key: str) -> tuple[str, str, str]:
    """Columns of a mean and the ends of its interval."""
    return key, f"{key}_low", f"{key}_high"


@figures.styled
def line_panel(
    lines: Sequence[Mapping],
    *,
    title: str,
    xlabel: str,
    unit: str,
    doubling: bool,
    bounds: Mapping[str, float],
) -> Figure:
    """Draw a metric against steps or weight, a line per model with 95 % intervals.

    Args:
        lines: per model ``title``, ``slot`` and equally long ``x``, ``mean``, ``low``, ``high``.
        title: heading of the panel.
        xlabel: what x is.
        unit: written behind the numbers of the y axis.
        doubling: whether equal distances are equal factors, as for steps.
        bounds: scores of ``floor``, the true image, and ``ceiling``, the unchanged source.
    """
    figure = Figure()
    axes = figure.subplots()
    ticks = sorted({float(x) for line in lines for x in line["x"]})
    for number, line in enumerate(lines):
        tone = figures.colour(line["slot"])
        mean = np.asarray(line["mean"], float)
        reach = np.nan_to_num([mean - line["low"], line["high"] - mean]).clip(min=0)
        x = np.asarray(line["x"], float)
        axes.plot(x, mean, color=tone, marker="o", markersize=5, zorder=3)
        axes.errorbar(
            x, mean, reach, color=tone, linestyle="none", capsize=3, alpha=0.7, zorder=2 + number
        )
    figures.bound_lines(axes, bounds, upright=False, linewidth=1.2, zorder=1)
    if doubling:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.margins(x=0.08)
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}{unit}"))
    if unit == "°":
        axes.set_ylim(bottom=0)
    return figure


def study_section(
    variants: Sequence[Variant],
    results: Sequence[Results],
    faces: FacesReader,
    pairs: pd.DataFrame,
    *,
    kind: str,
    dataset: str,
    people: int = 2,
) -> dict | None:
    """Return figures, strips of pictures, rows and sentences for the page; None without variants.

    Args:
        variants: of all models.
        results: the rows of the report.
        faces, pairs: of the data set.
        kind: kind of pairs that was sampled.
        dataset: name of the data set.
        people: rows of each strip, of different persons.
    """
    if not variants:
        return None
    table = study_table(variants, results, kind, dataset)
    columns = measures(variants)
    slots = {r.name: r.slot for r in results}
    titles = {r.name: tables.shown_title(r) for r in results}
    groups = []
    for scope, axis in dict.fromkeys((v.scope, v.axis) for v in variants if v.axis in AXES):
        part = table[(table["scope"] == scope) & (table["axis"] == axis)]
        bounds = {
            row["axis"]: row
            for _, row in table[table["scope"] == scope].iterrows()
            if row["axis"] in ("floor", "ceiling")
        }
        heading, xlabel = AXES[axis]
        plots = [
            _panel(part, bounds, column, slots, titles, f"{heading}-{scope}", xlabel)
            for column in columns
        ]
        chosen = [v for v in variants if (v.scope, v.axis) == (scope, axis)]
        strips = [
            strip
            for model in dict.fromkeys(v.model for v in chosen)
            if (strip := _strip(chosen, model, results, faces, pairs, kind, people, titles))
        ]
        where = "all pairs" if scope == "all" else f"the first {part['pairs'].max()} pairs"
        about = f"{KINDS[kind].title}, {where}, {part['persons'].max()} persons"
        groups.append({"title": heading, "about": about, "plots": plots, "strips": strips})
    models = dict.fromkeys(v.model for v in variants)
    # The rows of the true image and of the source come last.
    known = list(zip(variants, table.to_dict("records"), strict=False))
    identity, reason = identity_column(variants)
    return {
        "groups": groups,
        "legend": [{"title": titles.get(m, m), "slot": max(slots.get(m, 0), 0)} for m in models],
        "tables": [_rows(model, known, columns, titles, results) for model in models],
        "columns": [{"title": c.title, "hint": "degrees" if c.unit else ""} for c in columns],
        "sentences": _sentences(known, titles, results),
        "no_identity": "" if identity else reason.rstrip("."),
    }


def _panel(part, bounds, column, slots, titles, salt, xlabel) -> Markup:
    lines = []
    for model, rows in part.groupby("model", sort=False):
        ordered = rows.sort_values("value")
        lines.append(
            {
                "title": titles.get(model, model),
                "slot": max(slots.get(model, 0), 0),
                "x": ordered["value"],
                "mean": ordered[column.key],
                "low": ordered[f"{column.key}_low"],
                "high": ordered[f"{column.key}_high"],
            }
        )
    known = {role: row[column.key] for role, row in bounds.items()}
    title = column.title + (f", {column.better} is better" if column.unit != "°" else "")
    figure = line_panel(
        lines,
        title=title,
        xlabel=xlabel,
        unit=column.unit,
        doubling=salt.startswith("Steps"),
        bounds=known,
    )
    said = "; ".join(
        f"{line['title']}: "
        + ", ".join(f"{x:g}: {y:.3g}" for x, y in zip(line["x"], line["mean"], strict=True))
        for line in lines
    )
    text = f"{column.title} against {xlabel}: {said}"
    return Markup(figures.inline_svg(figure, f"study-{salt}-{column.key}", text))


def _strip(variants, model, results, faces, pairs, kind, people, titles) -> dict | None:
    """One row of pictures per person: source, target, then the variants in rising order."""
    chosen = sorted((v for v in variants if v.model == model), key=lambda v: v.value)
    common = set.intersection(*(set(v.per_pair["pair"]) for v in chosen))
    stores = {v.name: v.samples for v in chosen}
    errors = {v.name: v.per_pair for v in chosen}
    bounds = {r.role: r.name for r in results if r.role != "method" and r.per_pair is not None}
    errors |= {r.name: r.per_pair for r in results if r.name in bounds.values()}
    some = pairs[pairs["pair"].isin(common)]
    found = grids.collect(faces, some, stores, kind, people, errors)
    if not found:
        return None
    names = [(v.name, v.title) for v in chosen]
    ends = (bounds.get("floor"), bounds.get("ceiling"))
    return {
        "title": titles.get(model, model),
        "models": [(title, -1) for _, title in names],
        "rows": [sections.grid_row(row, kind, names, *ends) for row in found],
    }


def _own_title(model: str, results: Sequence[Results]) -> str:
    one = next((r for r in results if r.name == model), None)
    told = one.samples.attributes if one is not None and one.samples is not None else {}
    if "steps" not in told:
        return "this run's own sampling"
    text = f"{told.get('sampler')}, {told['steps']} step" + ("s" if told["steps"] != 1 else "")
    weight = float(told.get("guidance", 0))
    return text + (f", weight {weight:g}" if weight else "")


def _rows(model, known, columns, titles, results) -> dict:
    rows = []
    for variant, row in known:
        if variant.model != model:
            continue
        cells = [
            {
                "text": tables.text_of(None if np.isnan(row[c.key]) else row[c.key], c),
                "difference": _difference([row[key] for key in _ends(f"{c.key}_minus_own")], c),
            }
            for c in columns
        ]
        runs = row["evaluations_per_image"]
        rows.append(
            {
                "title": variant.title + (", all pairs" if variant.scope == "all" else ""),
                "pairs": int(row["pairs"]),
                "runs": "—" if pd.isna(runs) else f"{runs:g}",
                "times": [tables.text_of(row[cost.key], cost) for cost in tables.COSTS[:2]],
                "cells": cells,
            }
        )
    return {"model": titles.get(model, model), "own": _own_title(model, results), "rows": rows}


def _difference(values: Sequence[float], column: tables.Column) -> str:
    if not np.isfinite(values).all():
        return "—"
    if np.abs(values).max() < 0.5 * 10.0**-column.digits:
        return "no difference"
    mean, low, high = (f"{v:+.{column.digits}f}".replace("-", "−") for v in values)
    return f"{mean} ({low} to {high})"


def _sentences(known, titles, results) -> list[str]:
    """What the run's own sampling loses against the slow reference, pair by pair."""
    said = []
    for variant, row in known:
        if variant.axis != REFERENCE:
            continue
        mean, high, low = (-row[name] for name in _ends("gaze_error_deg_minus_own"))
        if not np.isfinite([mean, low, high]).all():
            continue
        judged = "no worse within the interval" if low <= 0 else "worse"
        own = next(r for r in results if r.name == variant.model)
        runs = own.samples.attributes.get("evaluations_per_image") if own.samples else None
        ratio = ""
        if runs:
            factor = row["evaluations_per_image"] / runs
            ratio = f" and {factor:.3g} times fewer network runs"
        numbers = f"{mean:+.2f}° (95 % interval {low:+.2f} to {high:+.2f})".replace("-", "−")
        said.append(
            f"{titles.get(variant.model, variant.model)}: with {_own_title(variant.model, results)}"
            f"{ratio}, the gaze error differs from that of {variant.title} by {numbers} on the "
            f"same {int(row['pairs'])} pairs: {judged}."
        )
    return said
