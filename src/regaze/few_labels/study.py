"""The study's table: error against the number of labels, with and without redirected pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pandas as pd

from regaze.few_labels.estimator import read_errors
from regaze.few_labels.settings import Draw
from regaze.metrics.bootstrap import bootstrap_mean
from regaze.outputs import replacing

REAL = "real"
"""Name of the estimators that learn from real pictures alone."""

KINDS = ("gaze", "head")


@dataclass(frozen=True)
class Measured:
    """One trained estimator of the study.

    Attributes:
        maker: the redirector whose pictures it learnt from besides the real ones, or ``real``.
        seed: which of the repetitions it belongs to.
        errors: parquet of :mod:`regaze.few_labels.estimator`.
    """

    maker: str
    seed: int
    errors: str | PathLike

    @classmethod
    def at(cls, path: str | PathLike) -> Measured:
        """The estimator whose errors lie at ``.../{maker}/{draw}/errors.parquet``."""
        *_, maker, draw, _ = Path(path).parts
        return cls(maker, Draw.parse(draw).seed, path)


def collect(measured: Sequence[Measured]) -> pd.DataFrame:
    """Read all errors: columns ``maker``, ``labels``, ``seed``, ``person``, ``row`` and errors.

    Raises:
        ValueError: none is given, or estimators were measured on different pictures.
    """
    if not measured:
        raise ValueError("measured: expected at least one estimator, found none")
    tables, pictures = [], None
    for one in measured:
        table, labels = read_errors(one.errors)
        own = table[["person", "row"]]
        if pictures is not None and not own.equals(pictures):
            raise ValueError(f"{one.errors}: measured on other pictures than {measured[0].errors}")
        pictures = own
        tables.append(table.assign(maker=one.maker, labels=labels, seed=one.seed))
    return pd.concat(tables, ignore_index=True)


def summarise(errors: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One row per number of labels and kind of training data.

    An error is the mean over pictures and seeds; its 95 % interval (``*_low``, ``*_high``) comes
    from drawing people, and does not hold the chance in subset and training: ``*_by_seed`` lists
    every seed's own mean. ``*_change`` is the error minus that of real pictures alone with the same
    labels and seeds, picture by picture, with its interval; ``gaze_verdict`` says whether that
    interval and every seed's own change are on one side of zero.

    Args:
        errors: of :func:`collect`.
        resamples: resamples of people.
        seed: seed of the resampling.
    """
    makers = sorted(set(errors["maker"]), key=lambda name: (name != REAL, name))
    rows = []
    for labels in sorted(set(errors["labels"])):
        at = errors[errors["labels"] == labels]
        means = {maker: _over_seeds(at[at["maker"] == maker]) for maker in makers}
        for maker in makers:
            if means[maker].empty:
                continue
            own = at[at["maker"] == maker]
            row = {"labels": labels, "data": maker, "seeds": own["seed"].nunique()}
            for kind in KINDS:
                column = f"{kind}_deg"
                interval = _interval(means[maker][column], resamples, seed)
                row |= _named(f"{kind}_deg", f"{kind}", interval)
                by_seed = own.groupby("seed")[column].mean()
                row[f"{kind}_by_seed"] = " ".join(f"{value:.3f}" for value in by_seed)
                if maker == REAL or means[REAL].empty:
                    continue
                change = means[maker][column] - means[REAL][column]
                interval = _interval(change, resamples, seed)
                row |= _named(f"{kind}_change", f"{kind}_change", interval)
                if kind == "gaze":
                    real = at[at["maker"] == REAL].groupby("seed")[column].mean()
                    changes = (by_seed - real).dropna()
                    row["gaze_verdict"] = verdict(interval.low, interval.high, changes.tolist())
            rows.append(row)
    return pd.DataFrame(rows)


def verdict(low: float | None, high: float | None, by_seed: Sequence[float] = ()) -> str:
    """What (augmented minus real) says by its interval and by seed: helps, harms, or neither."""
    if low is None or high is None:
        return "one person, no interval"
    if low <= 0 <= high:
        return "no difference shown"
    if any((change < 0) != (high < 0) for change in by_seed):
        return "seeds disagree"
    return "helps" if high < 0 else "harms"


def write_table(path: str | PathLike, table: pd.DataFrame) -> None:
    """Write the table as CSV with six significant digits."""
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")


def _over_seeds(errors: pd.DataFrame) -> pd.DataFrame:
    columns = [f"{kind}_deg" for kind in KINDS]
    return errors.groupby(["person", "row"])[columns].mean()


def _interval(values: pd.Series, resamples: int, seed: int):
    persons = values.index.get_level_values("person").to_numpy()
    return bootstrap_mean(values.to_numpy(), persons, seed=seed, resamples=resamples)


def _named(value: str, ends: str, interval) -> Mapping[str, float | None]:
    return {value: interval.mean, f"{ends}_low": interval.low, f"{ends}_high": interval.high}
