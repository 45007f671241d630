"""The study's figure and page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from regaze.few_labels.study import KINDS, REAL, Measured, collect, summarise, write_table
from regaze.outputs import replacing
from regaze.report.figures import colour, styled

TEMPLATES = Path(__file__).with_name("templates")
TITLES = {"gaze": "Gaze", "head": "Head"}


def report_study(
    measured: Sequence[Measured],
    *,
    table: str | PathLike,
    figure: str | PathLike,
    page: str | PathLike,
    about: Mapping[str, str],
    resamples: int = 1000,
    seed: int = 0,
) -> None:
    """Write the study's table (CSV), figure (PNG) and page (HTML, self-contained).

    Args:
        measured: the trained estimators.
        table: CSV to write, see :func:`regaze.few_labels.study.summarise`.
        figure: PNG to write.
        page: HTML to write.
        about: lines of the page on how the study was made: what it is, value.
        resamples: resamples of people.
        seed: seed of the resampling.
    """
    errors = collect(measured)
    rows = summarise(errors, resamples=resamples, seed=seed)
    write_table(table, rows)
    with replacing(figure) as part:
        drawn = draw_study(rows)
        drawn.savefig(part, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    picture = base64.b64encode(Path(figure).read_bytes()).decode()
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    text = environment.get_template("page.html.j2").render(
        rows=[_cells(row) for row in rows.to_dict("records")],
        sentence=summary(rows),
        picture=picture,
        about=about,
        people=errors["person"].nunique(),
        pictures=len(errors[["person", "row"]].drop_duplicates()),
    )
    with replacing(page) as part:
        part.write_text(text, encoding="utf-8")


@styled
def draw_study(rows: pd.DataFrame) -> Figure:
    """Draw error against labels, a panel for gaze and one for head; both axes' marks are degrees.

    Lines are means over seeds with 95 % bars from drawing people; dots are single seeds.
    """
    figure = Figure(figsize=(8.6, 3.6))
    panels = figure.subplots(1, 2)
    makers = list(dict.fromkeys(rows["data"]))
    counts = sorted(set(rows["labels"]))
    for axes, kind in zip(panels, KINDS, strict=True):
        for slot, maker in enumerate(makers):
            own = rows[rows["data"] == maker]
            # Side by side, so that bars of equal numbers of labels can be told apart.
            x = own["labels"].to_numpy(float) * 1.035 ** (slot - (len(makers) - 1) / 2)
            y = own[f"{kind}_deg"].to_numpy(float)
            low, high = (own[f"{kind}_{end}"].to_numpy(float) for end in ("low", "high"))
            style = {"color": colour(slot), "marker": "o", "markersize": 4}
            name = "real only" if maker == REAL else f"real + {maker}"
            axes.errorbar(
                x, y, yerr=[y - low, high - y], capsize=2.5, elinewidth=1, label=name, **style
            )
            dot = {"linestyle": "none", "marker": ".", "markersize": 3, "alpha": 0.45}
            for place, listed in zip(x, own[f"{kind}_by_seed"], strict=True):
                values = [float(value) for value in listed.split()]
                axes.plot([place] * len(values), values, color=colour(slot), **dot)
        axes.set_xscale("log")
        axes.set_xticks(counts)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0)
        axes.set_title(TITLES[kind])
        axes.set_xlabel("labelled pictures")
        axes.set_ylabel("error on unseen people, degrees")
    panels[0].legend(loc="best")
    return figure


_UNDECIDED = {
    "no difference shown": "show no difference in gaze",
    "seeds disagree": "do not go the same way with every seed",
    "one person, no interval": "are of one person, from whom nothing follows",
}
"""What is said of verdicts that neither help nor harm."""


def summary(rows: pd.DataFrame) -> str:
    """Sentences that say, for gaze, where redirected pictures help, harm, or neither."""
    if "gaze_verdict" not in rows:
        return "No redirector was asked to make pictures; these are real pictures alone."
    told = rows[rows["gaze_verdict"].notna()]
    found = {
        name: [
            f"{row['data']} at {row['labels']:,} ({row['gaze_change']:+.2f} degrees)"
            for row in told[told["gaze_verdict"] == name].to_dict("records")
        ]
        for name in ("helps", "harms")
    }
    parts = [
        f"Redirected pictures {name.replace('helps', 'help').replace('harms', 'harm')} gaze with "
        f"{'; '.join(cases)}."
        for name, cases in found.items()
        if cases
    ]
    for name, words in _UNDECIDED.items():
        if count := int((told["gaze_verdict"] == name).sum()):
            parts.append(f"{count} of {len(told)} comparisons {words}.")
    return " ".join(parts)


def _cells(row: Mapping) -> dict[str, str]:
    def with_ends(value: str, ends: str, form: str = "{:.2f}") -> str:
        if pd.isna(row.get(value)):
            return ""
        text = form.format(row[value])
        if pd.isna(row.get(f"{ends}_low")):
            return text
        return f"{text} ({form.format(row[f'{ends}_low'])} to {form.format(row[f'{ends}_high'])})"

    said = row.get("gaze_verdict")
    return {
        "labels": f"{row['labels']:,}",
        "data": "real only" if row["data"] == REAL else f"real + {row['data']}",
        **{kind: with_ends(f"{kind}_deg", kind) for kind in KINDS},
        "change": with_ends("gaze_change", "gaze_change", "{:+.2f}"),
        "verdict": "" if pd.isna(said) else said,
    }
