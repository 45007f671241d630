"""What the numbers say, in sentences computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regaze.factors import (
    CODED,
    FACTORS,
    GAZE_AND_HEAD,
    KINDS,
    Factor,
    PairKind,
    compared_kinds,
    factors_named,
)
from regaze.report.inputs import Results
from regaze.report.statistics import paired_difference
from regaze.report.tables import counts_of, interval_of, metric_of

_ROWS = factors_named(CODED)
LEARNED = 0.25
"""A method that removes less than this share of a factor's removable error has not learned it."""


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


@dataclass(frozen=True)
class _Score:
    """The methods by their error of a factor on a kind of pairs, with what bounds it.

    Attributes:
        factor, kind: which.
        ranked: the methods that have one, the best first.
        floor, ceiling: errors of the true image and of the unchanged source, None where unknown.
    """

    factor: Factor
    kind: PairKind
    ranked: list[Results]
    floor: float | None
    ceiling: float | None

    @property
    def key(self) -> str:
        """The metric."""
        return self.factor.column("error")

    def of(self, results: Results) -> dict:
        """The error of a method."""
        return metric_of(results, self.kind.name, self.key)

    def said(self, value: float) -> str:
        """A value with its unit."""
        return self.factor.text(value)


def _score(all_results, methods, factor: Factor, kind: str) -> _Score | None:
    """None where no method has the error."""
    key = factor.column("error")
    ranked = _ranked(methods, kind, key)
    if not ranked:
        return None
    return _Score(factor, KINDS[kind], ranked, *_bounds(all_results, kind, key))


def verdict(all_results: Sequence[Results]) -> Verdict:
    """Judge the run from its errors of the first factor that was measured, the others, pictures."""
    methods = [r for r in all_results if r.competes]
    if not methods:
        return Verdict("No method was evaluated.", ())
    first = next(iter(FACTORS))
    # Where it changes alone, where everything does, where it should not.
    kinds = dict.fromkeys((f"{first}_only", GAZE_AND_HEAD, *compared_kinds()))
    found = (_score(all_results, methods, FACTORS[first], kind) for kind in kinds)
    score = next((one for one in found if one is not None), None)
    if score is None:
        return Verdict(f"No {first} error could be measured for any method.", ())
    details = [_unlearned(score), _ties(score)]
    details += [_alone(all_results, methods, one) for one in list(_ROWS.values())[1:]]
    details += [_together(all_results, methods, score), _pictures(all_results, methods)]
    return Verdict(_headline(score), tuple(text for text in details if text))


def _headline(score: _Score) -> str:
    best, kind, name = score.ranked[0], score.kind, score.factor.name
    value = score.of(best)
    pairs, persons = counts_of(best, kind.name)
    where = f"{pairs} {kind.phrase}" if pairs else kind.phrase
    if persons:
        where += f" of {persons} unseen persons"
    low, high = interval_of(value)
    interval = f" (95 % interval {low:.1f}–{score.said(high)})" if low is not None else ""
    text = f"On {where}, {best.title} misses the {name} asked for by "
    text += f"{score.said(value['mean'])}{interval}"
    if score.floor is None or score.ceiling is None:
        return text + "; without floor and ceiling this number cannot be judged."
    share = removed(value["mean"], score.floor, score.ceiling)
    text += f", where the unchanged source scores {score.said(score.ceiling)} and the true image "
    text += score.said(score.floor)
    if not np.isfinite(share):
        return text + "."
    if share < LEARNED:
        return text + f": {name} has not been learned yet."
    return text + f": {100 * min(share, 1):.0f} % of the removable error is gone."


def _unlearned(score: _Score) -> str:
    if score.floor is None or score.ceiling is None:
        return ""
    weak = [
        results.title
        for results in score.ranked[1:]
        if removed(score.of(results)["mean"], score.floor, score.ceiling) < LEARNED
    ]
    if not weak:
        return ""
    verb = "has" if len(weak) == 1 else "have"
    return (
        f"{listed(weak)} {verb} learned little or no {score.factor.name}: close to the unchanged "
        "source."
    )


def _ties(score: _Score) -> str:
    best = score.ranked[0]
    tied, worse = [], []
    for other in score.ranked[1:]:
        if best.per_pair is None or other.per_pair is None:
            continue
        found = paired_difference(other.per_pair, best.per_pair, score.key, score.kind.name)
        mean, low, high = found
        if not np.isfinite(low):
            continue
        numbers = f"by {score.said(mean)} ({low:.1f} to {high:.1f})".replace("-", "−")
        text = f"{other.title} {numbers}"
        (tied if low <= 0 <= high else worse).append(text)
    sentences = []
    if worse:
        sentences.append(f"Pair by pair, {best.title} is ahead of {listed(worse)}.")
    if tied:
        sentences.append(
            f"Not to be told apart from {best.title} with these persons: {listed(tied)}."
        )
    return " ".join(sentences)


def _alone(all_results, methods, factor: Factor) -> str:
    """The best where a further factor changes alone."""
    score = _score(all_results, methods, factor, f"{factor.name}_only")
    if score is None or score.ceiling is None:
        return ""
    return f"On {score.kind.label} pairs the best is: {_best(score)}."


def _together(all_results, methods, shown: _Score) -> str:
    if shown.kind.name == GAZE_AND_HEAD:
        return ""
    found = [_score(all_results, methods, one, GAZE_AND_HEAD) for one in _ROWS.values()]
    parts = [_best(score) for score in found if score is not None and score.ceiling is not None]
    return f"When everything changes, the best are: {'; '.join(parts)}." if parts else ""


def _best(score: _Score) -> str:
    """The best method's error between its bounds, and who is not better than the source."""
    best = score.ranked[0]
    worse = [r.title for r in score.ranked if score.of(r)["mean"] >= score.ceiling]
    text = f"{score.factor.name} {score.said(score.of(best)['mean'])} ({best.title}; source "
    text += score.said(score.ceiling)
    text += f", true image {score.said(score.floor)})" if score.floor is not None else ")"
    return text + (f", not better than the source: {listed(worse)}" if worse else "")


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
    scores = [metric_of(results, "gaze_only", "eye_psnr")["mean"] for results in better]
    found = [f"{r.title} {score:.1f} dB" for r, score in zip(better, scores, strict=True)]
    return (
        f"Closer to the true eyes than the source is ({copy:.1f} dB eye PSNR on gaze-only pairs): "
        f"{listed(found)}."
    )


def _ranked(methods, kind, key, lower=True) -> list[Results]:
    known = [r for r in methods if metric_of(r, kind, key)["mean"] is not None]
    return sorted(known, key=lambda r: metric_of(r, kind, key)["mean"], reverse=not lower)


def _bounds(all_results, kind, key) -> tuple[float | None, float | None]:
    found = {r.role: metric_of(r, kind, key)["mean"] for r in all_results if r.role != "method"}
    return found.get("floor"), found.get("ceiling")


def listed(words: Sequence[str], most: int = 4) -> str:
    """Return words as in a sentence, of many the first and how many more there are."""
    if len(words) > most + 1:
        words = [*words[:most], f"{len(words) - most} more"]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
