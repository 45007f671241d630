"""The comparison: one row per method and kind of pair, with the best values found and explained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from regaze.factors import CODED, DEGREES, compared_kinds, factors_named
from regaze.factors import KINDS as PAIR_KINDS
from regaze.outputs import replacing, rounded
from regaze.report.inputs import Results
from regaze.report.statistics import paired_difference

KINDS = compared_kinds()
"""Kinds of pairs in the table, in order; a sweep has no true image and is shown instead."""


@dataclass(frozen=True)
class Column:
    """A column of the table: key in the files, heading, unit, digits, direction and meaning.

    ``better`` is ``lower``, ``higher`` or empty where no value is better than another.
    """

    key: str
    title: str
    unit: str
    digits: int
    better: str
    meaning: str


_EVERY = factors_named(CODED)
ERRORS = {
    name: Column(
        factor.column("error"), f"{factor.title} error", factor.unit, 2, "lower", factor.meaning
    )
    for name, factor in _EVERY.items()
}
"""By factor the column of its error."""
_EYES = "PSNR inside the two eye boxes only, where a change of gaze shows"
_IDENTITY = (
    "cosine between a face recogniser's vectors of the redirected and of the true picture; "
    "the row of the unchanged source has that of two pictures of one person"
)
_FRECHET = (
    "Fréchet distance between redirected and true pictures in the evaluation estimator's "
    "features (not FID)"
)
METRICS = (
    *ERRORS.values(),
    Column("psnr", "PSNR", "dB", 1, "higher", "likeness to the true image, all pixels"),
    Column("ssim", "SSIM", "", 3, "higher", "structural likeness to the true image"),
    Column("eye_psnr", "Eye PSNR", "dB", 1, "higher", _EYES),
    Column("identity_similarity", "Identity", "", 3, "higher", _IDENTITY),
    Column("frechet", "Fréchet", "", 2, "lower", _FRECHET),
)
_BOTH = "readings of both pictures"
_SHIFT = "difference of the mean colours in the middle half, grey levels"
DETAILS = (
    *(
        Column(one.column("vs_truth"), f"{one.title} vs truth", one.unit, 2, "lower", _BOTH)
        for one in _EVERY.values()
    ),
    Column("l1", "L1", "", 4, "lower", "mean absolute difference on [-1,1]"),
    Column("ssim_grey", "Grey SSIM", "", 3, "higher", "SSIM of grey levels, uniform window"),
    Column("colour_shift", "Colour shift", "levels", 2, "lower", _SHIFT),
    Column("identity_similarity_source", "Identity to source", "", 3, "", "cosine to the source"),
)
"""Columns of ``comparison.csv`` that the page does not show."""
_SOURCE = (
    "time to take in a source, once however many pictures are asked of it, on the machine of "
    "this run"
)
_REQUEST = "time to make a picture of a source that was taken in, on the machine of this run"
_RUNS = "evaluations of the network per picture"
COSTS = (
    Column("seconds_per_source", "Time", "per source", 0, "lower", _SOURCE),
    Column("seconds_per_request", "Time", "per request", 0, "lower", _REQUEST),
    Column("evaluations_per_image", "Runs", "of the network", 0, "lower", _RUNS),
    Column("parameters", "Parameters", "", 0, "", "trained numbers in the network"),
)
NOT_APPLICABLE = "does not apply: nothing was trained or sampled"
NOT_MEASURED = "not measured in this run"
ITSELF = "the true image compared with itself"
_PLAIN = (NOT_APPLICABLE, ITSELF)
"""Reasons that need no number below the table."""
PSEUDO_TITLES = {"floor": "true image", "ceiling": "source, unchanged"}


def metric_of(results: Results, kind: str, key: str) -> dict:
    """Return the metric of a kind with at least ``mean``; a null one has ``reason``."""
    section = results.metrics.get(kind)
    if section is None:
        return {"mean": None, "reason": f"no {kind} pairs were measured"}
    # Of Fréchet distances only that in the estimator's features is measured.
    found = section.get({"frechet": "frechet_estimator"}.get(key, key))
    return {"mean": None, "reason": NOT_MEASURED} if found is None else dict(found)


def cost_of(results: Results, key: str) -> dict:
    """Return seconds, evaluations or parameters like :func:`metric_of`."""
    if results.role != "method":
        return {"mean": None, "reason": NOT_APPLICABLE}
    attributes = results.samples.attributes if results.samples else {}
    sources: dict[str, Sequence[Mapping]] = {
        "seconds_per_source": (results.speed,),
        "seconds_per_request": (results.speed,),
        "evaluations_per_image": (attributes, results.speed, results.model),
        "parameters": (results.model,),
    }
    for source in sources[key]:
        if source.get(key) is not None:
            return {"mean": float(source[key])}
    return {"mean": None, "reason": "not recorded"}


def value_of(results: Results, kind: str, column: Column) -> dict:
    """Return the metric or the cost of a column."""
    if column in COSTS:
        return cost_of(results, column.key)
    return metric_of(results, kind, column.key)


def measured_columns(columns: Iterable[Column], measured: Collection[str]) -> tuple[Column, ...]:
    """Return columns without those of factors that are evaluated on demand and were not asked for.

    ``measured`` are the names of all that was.
    """
    coded = {one.column(what) for one in CODED.values() for what in ("error", "vs_truth")}
    return tuple(one for one in columns if one.key not in coded - set(measured))


def extra_columns(all_results: Sequence[Results]) -> tuple[Column, ...]:
    """Return columns for measured metrics that are not in :data:`METRICS`, in name order.

    A metric is lower-is-better when its name says error or distance (``_deg``, ``fid``, ``lpips``,
    ``distance``); otherwise no value of it is marked as best.
    """
    known = {"frechet_estimator", *(column.key for column in METRICS + DETAILS)}
    found = {
        name
        for results in all_results
        for kind in KINDS
        for name, value in results.metrics.get(kind, {}).items()
        if name not in known and value["mean"] is not None
    }
    low = ("_deg", "fid", "kid", "lpips", "distance", "frechet")
    return tuple(
        Column(
            name,
            name.replace("_deg", "").replace("_", " "),
            DEGREES if name.endswith("_deg") else "",
            2 if name.endswith("_deg") else 3,
            "lower" if any(part in name for part in low) else "",
            f"metric {name!r} of this run",
        )
        for name in sorted(found)
    )


def empty_kinds(all_results: Sequence[Results]) -> dict[str, str]:
    """Return ``{kind: reason}`` for listed kinds of pairs of which no method has any number.

    On photos of real people such kinds are usual: no two pictures share the head pose exactly.
    """
    reasons = {}
    for kind in KINDS:
        listed = [value for r in all_results for value in r.metrics.get(kind, {}).values()]
        if listed and all(value["mean"] is None for value in listed):
            reasons[kind] = str(listed[0].get("reason", ""))
    return reasons


def null_metrics(all_results: Sequence[Results]) -> dict[str, str]:
    """Return ``{metric: reason}`` for metrics that no method has a value of, on any kind."""
    reasons: dict[str, str] = {}
    measured = set()
    for results in all_results:
        for kind, section in results.metrics.items():
            for name, value in section.items() if kind in PAIR_KINDS else ():
                if value["mean"] is None:
                    reasons.setdefault(name, str(value.get("reason", "")))
                else:
                    measured.add(name)
    return {name: reason for name, reason in sorted(reasons.items()) if name not in measured}


def comparisons(by_dataset: Mapping[str, Sequence[Results]]) -> pd.DataFrame:
    """Return the raw table: one row per data set, model and kind, as in ``comparison.csv``.

    Columns: ``dataset, model, title, role, kind, pairs, persons``; per metric its mean under the
    metric's name and ``_se``, ``_low``, ``_high``, ``_n``, ``_reason``; costs, ``told``,
    ``images_seen``. Missing numbers are NaN, missing texts empty.
    """
    everyone = [r for part in by_dataset.values() for r in part]
    measured = {name for r in everyone for section in r.metrics.values() for name in section}
    columns = measured_columns(METRICS + DETAILS, measured) + extra_columns(everyone)
    rows = []
    for dataset, all_results in by_dataset.items():
        for kind, results in ((kind, results) for kind in KINDS for results in all_results):
            if kind not in results.metrics:
                continue
            pairs, persons = counts_of(results, kind)
            row: dict = {
                "dataset": dataset,
                "model": results.name,
                "title": results.title,
                "role": results.role,
                "kind": kind,
                "pairs": pairs,
                "persons": persons,
            }
            for column in columns:
                value = metric_of(results, kind, column.key)
                low, high = interval_of(value)
                row[column.key] = value["mean"]
                row[f"{column.key}_se"] = value.get("standard_error")
                row[f"{column.key}_low"], row[f"{column.key}_high"] = low, high
                row[f"{column.key}_n"] = value.get("n")
                row[f"{column.key}_reason"] = "" if value["mean"] is not None else value["reason"]
            for column in COSTS:
                row[column.key] = cost_of(results, column.key)["mean"]
            row["images_seen"] = results.model.get("images_seen")
            row["told"] = told(results)
            rows.append(row)
    return pd.DataFrame(rows)


def write_comparison(path: str | Path, table: pd.DataFrame) -> None:
    """Write the raw table as CSV: 6 significant digits, ``\\n`` line ends, empty for missing."""
    plain = table.copy()
    for name in plain.select_dtypes("float").columns:
        whole = plain[name].dropna()
        if len(whole) and (whole == whole.round()).all():
            plain[name] = plain[name].astype("Int64")
        else:
            plain[name] = [np.nan if pd.isna(v) else rounded(float(v)) for v in plain[name]]
    with replacing(path) as part:
        plain.to_csv(part, index=False, lineterminator="\n")


def counts_of(results: Results, kind: str) -> tuple[int | None, int | None]:
    """Return how many pairs and persons a kind was measured on, None where unknown."""
    if results.per_pair is not None:
        part = results.per_pair[results.per_pair["kind"] == kind]
        return len(part), int(part["person"].nunique())
    known = [v["n"] for v in results.metrics.get(kind, {}).values() if v.get("n") is not None]
    return (int(max(known)) if known else None), None


def interval_of(value: Mapping) -> tuple[float | None, float | None]:
    """Return the ends of a metric's 95 % interval, None where there is none."""
    interval = value.get("interval")
    if not interval or value["mean"] is None or any(end is None for end in interval):
        return None, None
    return float(interval[0]), float(interval[1])


def cell(value: Mapping, column: Column, notes: dict[str, int], mark: str = "") -> dict:
    """Return what the template shows of a metric.

    Args:
        value: of :func:`metric_of`.
        column: where it stands.
        notes: numbers of the table's notes by their text; reasons and warnings are added.
        mark: ``best``, ``tied`` or nothing.
    """

    def noted(text: str) -> int:
        return notes.setdefault(text, len(notes) + 1)

    shown = dict.fromkeys(("text", "interval", "mark", "reason", "note", "home"), "")
    if value["mean"] is None:
        reason = str(value["reason"]).rstrip(".")
        return shown | {"reason": reason, "note": "" if reason in _PLAIN else noted(reason)}
    shown |= {"text": text_of(value["mean"], column), "mark": mark}
    low, high = interval_of(value)
    if low is not None:
        shown["interval"] = f"{text_of(low, column)}–{text_of(high, column)}"
    if warning := value.get("warning"):
        shown["note"] = noted(f"{warning[:1].upper()}{warning[1:]}")
    return shown


def marked(name: str, marks: tuple[set[str], set[str]]) -> str:
    """Return the mark of a method among :func:`best_methods`."""
    best, tied = marks
    return "best" if name in best else "tied" if name in tied else ""


def row(results: Results, cells: Sequence[Mapping], about: str = "") -> dict:
    """Return a row of a table; ``about`` says what the method is told of the target."""
    title = shown_title(results)
    return {
        "title": title,
        "told": about,
        "role": results.role,
        "slot": results.slot,
        "cells": cells,
    }


def heads(columns: Iterable[Column]) -> list[dict]:
    """Return headings with units, which way is better, and meanings."""
    return [
        {"title": column.title, "meaning": column.meaning, "hint": hint(column)}
        for column in columns
    ]


def hint(column: Column) -> str:
    """Return a column's unit and which way is better."""
    arrow = {"lower": "↓", "higher": "↑"}.get(column.better, "")
    return f"{unit_words(column)} {arrow}".strip()


def unit_words(column: Column) -> str:
    """Return a column's unit in words."""
    return {"°": "degrees"}.get(column.unit, column.unit)


def shown_title(results: Results) -> str:
    """Return a method's title, or what a pseudo-model stands for."""
    if results.entry.title is None and results.role in PSEUDO_TITLES:
        return PSEUDO_TITLES[results.role]
    return results.title


def told(results: Results) -> str:
    """Return what a method knows of the target beside the source picture.

    And how it learnt and sees otherwise than others: a second data set, a view of its own.
    """
    if results.role == "floor":
        return "the true image itself"
    if results.role == "ceiling":
        return "nothing: it returns the source"
    found = str(results.model.get("told") or "not recorded")
    judges = {"identity": "judges identity", "lpips_alexnet": "measures LPIPS"}
    judges |= {"lpips_vgg16": "measures LPIPS (VGG)", "inception": "measures FID"}
    used = [about["entry"] for about in results.model.get("networks", {}).values()]
    if seen := [judges[name] for name in used if name in judges]:
        found += f"; learnt from the network that {' and '.join(seen)}"
    if "unlabelled" in results.model.get("data", {}):
        found += "; learnt from a second data set without labels"
    covers = None if results.samples is None else results.samples.attributes.get("view_covers")
    if covers is not None:
        found += f"; sees {covers:.0%} of the patch, the rest is the source's"
    return found


def best_methods(
    all_results: Sequence[Results], kind: str, column: Column
) -> tuple[set[str], set[str]]:
    """Return the names of the best real methods of a column, and of those tied with them.

    Best is every method whose printed value equals the best printed value. Tied is a method whose
    paired difference from the best one has a 95 % interval (by persons) that includes zero. Upper
    bounds, which are told the target photo's code, and reconstructions are neither.
    """
    if not column.better:
        return set(), set()
    values = {}
    for results in all_results:
        mean = value_of(results, kind, column)["mean"]
        if results.competes and mean is not None:
            values[results.name] = float(mean)
    if len(values) < 2:
        return set(), set()
    pick = min if column.better == "lower" else max
    winner = pick(values, key=values.__getitem__)
    shown = {name: text_of(value, column) for name, value in values.items()}
    best = {name for name, text in shown.items() if text == shown[winner]}
    tables = {results.name: results.per_pair for results in all_results}
    if tables[winner] is None:
        return best, set()
    tied = set()
    for name in values.keys() - best:
        if tables[name] is None:
            continue
        _, low, high = paired_difference(tables[name], tables[winner], column.key, kind)
        if np.isfinite(low) and low <= 0 <= high:
            tied.add(name)
    return best, tied


def text_of(value: float | None, column: Column) -> str:
    """Return a number as it is printed, without its unit."""
    if value is None:
        return "—"
    if column.key == "parameters":
        return short_count(value)
    if column.key in ("seconds_per_source", "seconds_per_request"):
        return f"{1000 * value:.2g} ms" if value < 0.0995 else _seconds(value)
    return f"{value:.{column.digits}f}".replace("-", "−")


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 0.9995 else f"{value:.3g} s"


def short_count(value: float) -> str:
    """Return a count with k, M or G and three significant digits: 1234567 is ``1.23 M``."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.0f}"
