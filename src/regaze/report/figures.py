"""Figures of the report: matplotlib panels of one fixed style, saved as reproducible SVG.

Every function returns a figure of one panel. The page lays panels out side by side; colours that
have a role (ink, rule, a method's colour) are exchanged for CSS variables there, so that one
drawing serves the light and the dark scheme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from regaze.report.statistics import person_interval

STYLE = Path(__file__).with_name("style.mplstyle")
SERIES = (
    "#2a62c4",
    "#c4570c",
    "#138060",
    "#8a3db5",
    "#bd2f46",
    "#0d7a94",
    "#85650f",
    "#b8327f",
    "#4b5fae",
    "#5b7a1d",
)
"""Colours of methods by slot, told apart with deficient colour vision and on white paper."""
INK, MUTED, RULE, EDGE = "#1c2430", "#5d6675", "#e6e9ee", "#c9cfd8"
_ROLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", EDGE: "--edge"}


@dataclass(frozen=True)
class Series:
    """One method in a figure: its title, per-pair results, role and colour slot."""

    title: str
    per_pair: pd.DataFrame
    role: str = "method"
    slot: int = 0


def colour(slot: int) -> str:
    """Return the colour of a method's slot; slots beyond the palette start over."""
    return SERIES[slot % len(SERIES)]


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in the package's style, whatever the user's own settings are."""

    @wraps(draw)
    def inside(*args, **kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.style.use(STYLE)
            figure = draw(*args, **kwargs)
            FigureCanvasSVG(figure)
            for axes in figure.axes:
                _part_bounds(axes)
            return figure

    return inside


_BOUND = {True: "bound across", False: "bound along"}
"""What names of bounds are called among the texts of a panel, by whether scores run along x."""


@styled
def training_curve(curve: pd.DataFrame, title: str, slot: int = 0) -> Figure:
    """Draw the loss against images seen: every logged value faint, their running mean strong.

    Validation losses, where logged, are ringed points; an estimator's validation score is in
    degrees and therefore not drawn among losses.

    Args:
        curve: columns ``step`` and ``loss``, with ``images`` and ``val_score`` if known.
        title: heading of the panel.
        slot: colour.
    """
    figure = Figure()
    axes = figure.subplots()
    by_images = "images" in curve and curve["images"].notna().all()
    x = curve["images" if by_images else "step"].to_numpy(float)
    y = curve["loss"].to_numpy(float)
    finite = np.isfinite(y)
    if "val_score" in curve and "val_gaze_deg" not in curve:
        checked = curve["val_score"].to_numpy(float)
        seen = np.isfinite(checked)
        axes.plot(
            x[seen],
            checked[seen],
            color=INK,
            linestyle="none",
            marker="o",
            markersize=4.5,
            markerfacecolor="none",
            zorder=4,
            label="validation",
        )
        if seen.any():
            axes.legend(loc="upper right")
    x, y = x[finite], y[finite]
    axes.plot(x, y, color=colour(slot), alpha=0.28, linewidth=0.9)
    axes.plot(x, running_mean(y), color=colour(slot))
    axes.set_title(title)
    axes.set_xlabel("images seen" if by_images else "optimiser steps")
    axes.set_ylabel("loss")
    if len(y) and y.min() > 0 and y.max() > 8 * np.median(y[-max(1, len(y) // 5) :]):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _thousands(v)))
    return figure


def points(one: Series, kind: str, error: str, angle: str) -> pd.DataFrame:
    """Return person, error and angle of a method's pairs of a kind of which both are known."""
    columns = ["person", error, angle]
    return one.per_pair[one.per_pair["kind"] == kind].reindex(columns=columns).dropna()


@styled
def error_against_angle(
    series: Sequence[Series],
    *,
    error: str,
    angle: str,
    kind: str,
    title: str,
    xlabel: str,
    bins: int = 6,
) -> Figure:
    """Draw mean error against how far was redirected, with 95 % bands from drawing persons.

    The floor is dotted and the ceiling dashed, both without colour. Bins hold equally many pairs,
    and are the same for all methods.

    Args:
        series: methods, floor and ceiling with per-pair tables that have pairs of the kind with
            both numbers known.
        error: column of the error in degrees.
        angle: column of the redirection angle in degrees.
        kind: kind of pairs to use.
        title, xlabel: texts of the panel.
        bins: at most so many bins.
    """
    figure = Figure()
    axes = figure.subplots()
    parts = [points(one, kind, error, angle) for one in series]
    edges = _edges(np.concatenate([part[angle].to_numpy(float) for part in parts]), bins)
    for one, part in zip(series, parts, strict=True):
        place = np.clip(np.searchsorted(edges, part[angle], side="right") - 1, 0, len(edges) - 2)
        found = []
        for number in range(len(edges) - 1):
            inside = part[place == number]
            if len(inside):
                mean, low, high = person_interval(inside[error], inside["person"])
                found.append((inside[angle].mean(), mean, low, high))
        x, mean, low, high = np.array(found).T
        look = _look(one)
        axes.plot(x, mean, label=one.title, **look)
        if one.role == "method":
            axes.fill_between(x, low, high, color=look["color"], alpha=0.14, linewidth=0)
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("error")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}°"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}°"))
    return figure


@styled
def dots(
    rows: Sequence[Mapping],
    *,
    title: str,
    xlabel: str,
    better: str,
    floor: float | None = None,
    ceiling: float | None = None,
) -> Figure:
    """Draw means and intervals of methods as dots below each other, with floor and ceiling lines.

    Args:
        rows: per method ``title``, ``slot``, ``mean`` and, where known, ``low`` and ``high``.
        title: heading of the panel.
        xlabel: what is measured, with its unit.
        better: ``lower`` or ``higher``, said in the label.
        floor: score of the true image.
        ceiling: score of the unchanged source.
    """
    figure = Figure(figsize=(4.4, 1.15 + 0.3 * max(1, len(rows))))
    axes = figure.subplots()
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    for place, row in enumerate(rows):
        y, tone = -place, colour(row["slot"])
        if row.get("low") is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=tone, linewidth=2.4, alpha=0.45)
        axes.plot(row["mean"], y, "o", color=tone, markersize=6)
    bound_lines(axes, {"floor": floor, "ceiling": ceiling}, upright=True, linewidth=1.1)
    axes.set_yticks([-place for place in range(len(rows))], [row["title"] for row in rows])
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    axes.tick_params(axis="y", labelcolor=INK, labelsize=10)
    axes.spines["left"].set_visible(False)
    axes.set_title(title, pad=18)
    axes.set_xlabel(f"{xlabel}, {better} is better")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.margins(x=0.08)
    return figure


def bound_lines(axes, bounds: Mapping[str, float | None], *, upright: bool, **style) -> None:
    """Draw lines at what bounds a score, named at their ends.

    Args:
        axes: of the panel.
        bounds: scores of ``floor``, the true image, and ``ceiling``, the unchanged source.
        upright: whether scores run along x.
        style: of the lines.
    """
    for role, text, dashes in (("floor", "true image", (1, 1.6)), ("ceiling", "source", (4, 2))):
        value = bounds.get(role)
        if value is None or not np.isfinite(value):
            continue
        (axes.axvline if upright else axes.axhline)(value, color=MUTED, dashes=dashes, **style)
        place, units = (value, 1), ("data", "axes fraction")
        axes.annotate(
            text,
            place if upright else place[::-1],
            xycoords=units if upright else units[::-1],
            xytext=(0, 2),
            textcoords="offset points",
            ha="center" if upright else "right",
            va="bottom",
            fontsize=9,
            color=MUTED,
            label=_BOUND[upright],
        )


def _part_bounds(axes: Axes) -> None:
    """Move the names of two bounds to the outer sides of their lines where they overlap."""
    for upright, name in _BOUND.items():
        labels = [text for text in axes.texts if text.get_label() == name]
        if len(labels) < 2:
            continue
        axes.figure.draw_without_rendering()
        first, second = (text.get_window_extent() for text in labels)
        if not first.padded(1).overlaps(second):
            continue
        low, high = sorted(labels, key=lambda text: text.xy[0 if upright else 1])
        # On an axis that is turned, the lower score stands on the other side.
        ends = axes.get_xlim() if upright else axes.get_ylim()
        low, high = (low, high) if ends[0] < ends[1] else (high, low)
        if upright:
            low.set(ha="right", position=(-3, 2))
            high.set(ha="left", position=(3, 2))
        elif low.get_window_extent().y0 - axes.bbox.y0 > low.get_window_extent().height:
            low.set(va="top", position=(0, -2))
        else:
            # Below are the numbers of the axis.
            moved = low.get_window_extent().y1 - high.get_window_extent().y0
            high.set(position=(0, 3 + moved * 72 / axes.figure.dpi))


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the centred mean over about 5 % of the values, shorter at both ends."""
    values = np.asarray(values, float)
    half = max(1, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    reach = np.minimum(np.minimum(place, len(values) - 1 - place), half)
    return (total[place + reach + 1] - total[place - reach]) / (2 * reach + 1)


def svg_text(figure: Figure, salt: str) -> str:
    """Return a figure as SVG that depends on nothing but the figure and ``salt``.

    ``salt`` keeps the identifiers of several figures on one page apart.
    """
    stream = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.style.use(STYLE)
        # The layout creeps with every drawing; frozen, a second save gives the same bytes.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        matplotlib.rcParams["svg.hashsalt"] = f"regaze-{salt}"
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing)
    return stream.getvalue()


def inline_svg(figure: Figure, salt: str, description: str) -> str:
    """Return a figure as an ``<svg>`` element for an HTML page.

    Colours with a role become CSS variables (with the drawn colour as fallback), fonts become the
    page's, and the element is labelled with ``description`` for readers who cannot see it.
    """
    text = svg_text(figure, salt)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # Group names such as "axes_1" are the same in every figure and nothing refers to them.
    text = re.sub(r' id="[a-zA-Z][\w.]*_\d+"', "", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(
        r"font: (bold|700) ([\d.]+)px [^;\"]*", r"font-weight: 650; font-size: \2px", text
    )
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for value, name in _ROLES.items():
        text = text.replace(value, f"var({name}, {value})")
    for slot, value in enumerate(SERIES):
        text = text.replace(value, f"var(--s{slot}, {value})")
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    opening = f'<svg class="plot" role="img" aria-label="{label}" viewBox="0 0 {width} {height}">'
    return opening + text[text.index(">", text.index("<svg")) + 1 :].strip()


def _look(one: Series) -> dict:
    if one.role == "floor":
        return {"color": MUTED, "linewidth": 1.4, "dashes": (1, 1.6)}
    if one.role == "ceiling":
        return {"color": MUTED, "linewidth": 1.4, "dashes": (4, 2)}
    marker = "osD^vPX*<>"[one.slot % 10]
    return {"color": colour(one.slot), "marker": marker, "markersize": 4}


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1.0])


def _thousands(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
