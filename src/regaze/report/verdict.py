"""What the numbers say, in sentences computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regaze.report.inputs import Results
from regaze.report.statistics import paired_difference
from regaze.report.tables import counts_of, interval_of, metric_of

LEARNED = 0.25
"""A method that removes less than this share of the removable gaze error has not learned gaze."""
PHRASES = {
    "gaze_only": "gaze-only pairs (same head, new gaze)",
    "head_only": "head-only pairs (same gaze, new head)",
    "free": "free pairs (new gaze and new head)",
}


@dataclass(frozen=True)
class Verdict:
    """One headline and further sentences, plain text."""

    headline: str
    details: tuple[str, ...]


def removed(value: float, floor: float, ceiling: float) -> float:
    """Return which share of the removable error ``ceiling - floor`` a method removes.

    1 is as good as the true image, 0 is no better than the source, below 0 is worse. NaN when the
    ceiling is not above the floor.
    """
    return (ceiling - value) / (ceiling - floor) if ceiling > floor else np.nan


def verdict(all_results: Sequence[Results]) -> Verdict:
    """Judge the run from its gaze, head and picture scores."""
    methods = [r for r in all_results if r.role == "method" and not r.upper_bound]
    if not methods:
        return Verdict("No method was evaluated.", ())
    kind = next(
        (k for k in ("gaze_only", "free", "head_only") if _ranked(methods, k, "gaze_error_deg")),
        None,
    )
    if kind is None:
        return Verdict("No gaze error could be measured for any method.", ())
    details = [_unlearned(all_results, methods, kind), _ties(methods, kind)]
    details += [_free(all_results, methods, kind), _pictures(all_results, methods)]
    return Verdict(_headline(all_results, methods, kind), tuple(text for text in details if text))


def _headline(all_results, methods, kind) -> str:
    best = _ranked(methods, kind, "gaze_error_deg")[0]
    value = metric_of(best, kind, "gaze_error_deg")
    floor, ceiling = _bounds(all_results, kind, "gaze_error_deg")
    pairs, persons = counts_of(best, kind)
    where = f"{pairs} {PHRASES[kind]}" if pairs else PHRASES[kind]
    if persons:
        where += f" of {persons} unseen persons"
    low, high = interval_of(value)
    interval = f" (95 % interval {low:.1f}–{high:.1f}°)" if low is not None else ""
    text = f"On {where}, {best.title} misses the gaze asked for by {value['mean']:.1f}°{interval}"
    if floor is None or ceiling is None:
        return text + "; without floor and ceiling this number cannot be judged."
    share = removed(value["mean"], floor, ceiling)
    text += f", where the unchanged source scores {ceiling:.1f}° and the true image {floor:.1f}°"
    if not np.isfinite(share):
        return text + "."
    if share < LEARNED:
        return text + ": gaze has not been learned yet."
    return text + f": {100 * min(share, 1):.0f} % of the removable error is gone."


def _unlearned(all_results, methods, kind) -> str:
    floor, ceiling = _bounds(all_results, kind, "gaze_error_deg")
    if floor is None or ceiling is None:
        return ""
    ranked = _ranked(methods, kind, "gaze_error_deg")
    weak = [
        results.title
        for results in ranked[1:]
        if removed(metric_of(results, kind, "gaze_error_deg")["mean"], floor, ceiling) < LEARNED
    ]
    if not weak:
        return ""
    verb = "has" if len(weak) == 1 else "have"
    return f"{_listed(weak)} {verb} learned little or no gaze: close to the unchanged source."


def _ties(methods, kind) -> str:
    ranked = _ranked(methods, kind, "gaze_error_deg")
    best = ranked[0]
    tied, worse = [], []
    for other in ranked[1:]:
        if best.per_pair is None or other.per_pair is None:
            continue
        found = paired_difference(other.per_pair, best.per_pair, "gaze_error_deg", kind)
        mean, low, high = found
        if not np.isfinite(low):
            continue
        numbers = f"by {mean:.1f}° ({low:.1f} to {high:.1f})".replace("-", "−")
        text = f"{other.title} {numbers}"
        (tied if low <= 0 <= high else worse).append(text)
    sentences = []
    if worse:
        sentences.append(f"Pair by pair, {best.title} is ahead of {_listed(worse)}.")
    if tied:
        sentences.append(
            f"Not to be told apart from {best.title} with these persons: {_listed(tied)}."
        )
    return " ".join(sentences)


def _free(all_results, methods, shown) -> str:
    if shown == "free":
        return ""
    parts = []
    for key, what in (("gaze_error_deg", "gaze"), ("head_error_deg", "head")):
        ranked = _ranked(methods, "free", key)
        floor, ceiling = _bounds(all_results, "free", key)
        if not ranked or ceiling is None:
            continue
        value = metric_of(ranked[0], "free", key)["mean"]
        worse = [r.title for r in ranked if metric_of(r, "free", key)["mean"] >= ceiling]
        text = f"{what} {value:.1f}° ({ranked[0].title}; source {ceiling:.1f}°"
        text += f", true image {floor:.1f}°)" if floor is not None else ")"
        if worse:
            text += f", not better than the source: {_listed(worse)}"
        parts.append(text)
    return f"When the head moves too, the best are: {'; '.join(parts)}." if parts else ""


def _pictures(all_results, methods) -> str:
    ranked = _ranked(methods, "gaze_only", "eye_psnr", lower=False)
    _, copy = _bounds(all_results, "gaze_only", "eye_psnr")
    if not ranked or copy is None:
        return ""
    better = [r for r in ranked if metric_of(r, "gaze_only", "eye_psnr")["mean"] > copy]
    if not better:
        return (
            f"No method's eyes are closer to the true image than the source's own ({copy:.1f} dB "
            "eye PSNR on gaze-only pairs)."
        )
    listed = [f"{r.title} {metric_of(r, 'gaze_only', 'eye_psnr')['mean']:.1f} dB" for r in better]
    return (
        f"Closer to the true eyes than the source is ({copy:.1f} dB eye PSNR on gaze-only pairs): "
        f"{_listed(listed)}."
    )


def _ranked(methods, kind, key, lower=True) -> list[Results]:
    known = [r for r in methods if metric_of(r, kind, key)["mean"] is not None]
    return sorted(known, key=lambda r: metric_of(r, kind, key)["mean"], reverse=not lower)


def _bounds(all_results, kind, key) -> tuple[float | None, float | None]:
    found = {r.role: metric_of(r, kind, key)["mean"] for r in all_results if r.role != "method"}
    return found.get("floor"), found.get("ceiling")


def _listed(words: Sequence[str], most: int = 4) -> str:
    if len(words) > most + 1:
        words = [*words[:most], f"{len(words) - most} more"]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
