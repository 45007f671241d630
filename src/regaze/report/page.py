"""The report: one self-contained HTML page and the raw comparison table beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from regaze.factors import GAZE_AND_HEAD
from regaze.outputs import replacing
from regaze.report import across, citations, sections, studies, tables
from regaze.report.across import DatasetEntry
from regaze.report.encoders import encoder_section
from regaze.report.induced import identity_note, induced_table
from regaze.report.inputs import EstimatorEntry, Results
from regaze.report.inverted import InvertedEntry, inverted_section, inverter_parts
from regaze.report.protocols import paper_table
from regaze.report.published import published_section
from regaze.report.studies import StudyEntry
from regaze.report.verdict import listed, verdict

TEMPLATES = Path(__file__).with_name("templates")
SIZE_LIMIT = 20_000_000
"""Bytes that the page may have; a larger one cannot be mailed or opened on a phone."""


def write_report(
    out_html: str | os.PathLike,
    out_csv: str | os.PathLike,
    datasets: Sequence[DatasetEntry],
    *,
    estimators: Sequence[EstimatorEntry] = (),
    encoders: Sequence[str | os.PathLike] = (),
    config: Mapping | None = None,
    versions: Mapping[str, str] | None = None,
    study: Sequence[StudyEntry] = (),
    study_kind: str = GAZE_AND_HEAD,
    out_study: str | os.PathLike | None = None,
    inverted: Mapping[str, InvertedEntry] | None = None,
    inverters: Sequence[str | os.PathLike] = (),
    atlases: Sequence[str | os.PathLike] = (),
    grid_rows: int = 6,
) -> None:
    """Write the page and ``comparison.csv``.

    Args:
        out_html: page to write; pictures, style and figures are inside it.
        out_csv: table to write, one row per model and kind of pair.
        datasets: the data set that the methods were trained on, then those that the same methods
            were only evaluated on; each of these gets a section, and one table compares all.
        estimators: the gaze and head estimators.
        encoders: ``model.json`` of 3-D face encoders.
        config: the configuration, shown as YAML.
        versions: package to version.
        study: variants of sampling, compared in a section of their own.
        study_kind: kind of pairs that they are compared on.
        inverted: by model, where it is measured against inversions.
        inverters: ``inverter.json`` of every inverter, ``inverter.png`` beside it.
        out_study: table of the variants to write, with the heading alone where there are none.
        atlases: pages of faces that follow the pointer, each named as its method, in a folder
            beside the page or below that; they are linked to.
        grid_rows: rows of each grid; fewer are shown when the page would exceed its limit.

    Raises:
        FileNotFoundError, ValueError: an input is missing or not as described; the message names
            data set, file and field.
        ValueError: no data set, two that share a name, or a page that exceeds :data:`SIZE_LIMIT`
            even with a single row per grid.
    """
    names = [one.name for one in datasets]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"data sets: expected each once, found {', '.join(names) or 'none'}")
    sets = [one.loaded() for one in datasets]
    home, *others = sets
    reader, table, results = home.faces, home.pairs, home.results
    context = {
        "dataset": _eyebrow(names),
        "home": home.name,
        "csv_name": Path(out_csv).name,
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "lead": _lead(results, names),
        "verdict": across.with_details(verdict(results), across.transfer_sentences(sets)),
        "table": sections.comparison_table(results),
        "overview": sections.overview_plots(results),
        "induced": induced_table(results),
        "paper": paper_table(results),
        "inverted": inverted_section(results, inverted or {}),
        "inverters": inverter_parts(inverters),
        "identity_note": identity_note(results),
        "atlases": _links(atlases, Path(out_html).parent),
        "published": published_section(results),
        "not_measured": tables.null_metrics(results),
        "sweep": sections.sweep_section(results, reader, table),
        "curves": sections.curve_plots(results, estimators),
        "estimators": sections.estimator_table(estimators),
        "encoders": encoder_section(encoders),
        "documents": _documents(config, versions),
        "across": across.cross_table(sets) if others else None,
        **sections.data_part(home),
    }
    variants = studies.load_variants(study, study_kind)
    context["study"] = studies.study_section(
        variants, results, reader, table, kind=study_kind, dataset=home.name
    )
    if out_study is not None:
        found = studies.study_table(variants, results, study_kind, home.name)
        tables.write_comparison(out_study, found)
    context["angle_plots"], context["legend"] = sections.angle_plots(results)
    context["cited"], context["works"] = _citations(results, names)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    rows = max(1, grid_rows)
    while True:
        context["grids"] = sections.grid_sections(results, reader, table, rows)
        context["foreign"] = [across.foreign_part(one, home, rows) for one in others]
        context["sections"] = _navigation(context)
        page = template.render(context).encode("utf-8")
        if len(page) <= SIZE_LIMIT:
            break
        if rows == 1:
            raise ValueError(
                f"{out_html}: expected at most {SIZE_LIMIT} bytes, found {len(page)}; "
                "show fewer methods or a smaller contact sheet"
            )
        rows //= 2
    tables.write_comparison(out_csv, tables.comparisons({one.name: one.results for one in sets}))
    with replacing(out_html) as part:
        part.write_bytes(page)


def _eyebrow(names: Sequence[str]) -> str:
    home = f"{names[0]} data set"
    return f"trained on the {home}, also evaluated on {listed(names[1:])}" if names[1:] else home


def _lead(results: Sequence[Results], names: Sequence[str]) -> str:
    methods = [r.title for r in results if r.role == "method"]
    text = (
        f"{len(methods)} {'method' if len(methods) == 1 else 'methods'} ({', '.join(methods)}) "
        "turned the gaze and the head of the same held-out faces of the "
        f"{names[0]} data set; an independent estimator read the result."
    )
    if names[1:]:
        text += f" Without further training they did the same on {listed(names[1:])}."
    return text


def _documents(config: Mapping | None, versions: Mapping[str, str] | None) -> list:
    found = []
    if config:
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=96)
        found.append(("Configuration", text.rstrip()))
    if versions:
        width = max(len(name) for name in versions)
        lines = [f"{name.ljust(width)}  {versions[name]}" for name in sorted(versions)]
        found.append(("Versions", "\n".join(lines)))
    return found


def _citations(results: Sequence[Results], names: Sequence[str]) -> tuple[list, list]:
    uses = []
    for result in results:
        if result.role == "method":
            keys = citations.works_of_model(result.name, str(result.model.get("class", "")))
            if keys:
                uses.append((result.title, keys))
    for dataset in names:
        data = citations.works_of_dataset(dataset)
        if data:
            uses.append((f"Data set {dataset}", data))
    uses.append(("Normalisation, estimators and error definitions", citations.ALWAYS))
    works = citations.bibliography([key for _, keys in uses for key in keys])
    number = {key: n for n, key, _ in works}
    return [(name, [number[key] for key in keys]) for name, keys in uses], works


def _links(pages: Sequence[str | os.PathLike], home: Path) -> list[tuple[str, str]]:
    """Names of pages, and where they lie from a folder."""
    return [(Path(one).stem, quote(Path(one).relative_to(home).as_posix())) for one in pages]


def _navigation(context: Mapping) -> list[tuple[str, str]]:
    offered = (
        ("comparison", "Comparison", True),
        ("pictures", "Pictures", context["grids"]),
        ("sweep", "Sweep", context["sweep"]),
        ("angles", "Error by angle", context["angle_plots"]),
        ("induced", "Induced errors", context["induced"]),
        ("paper", "GazeNeRF's protocol", context["paper"]),
        ("inversions", "Inversions", context["inverted"] or context["inverters"]),
        ("sampling", "Steps and guidance", context["study"]),
        ("training", "Training", context["curves"]),
        ("estimators", "Estimators", context["estimators"]),
        ("encoders", "3-D faces", context["encoders"]),
        ("published", "Published", context["published"]),
        ("data", "Data", True),
        ("across", "Across data sets", context["across"]),
        *((part["anchor"], part["name"], True) for part in context["foreign"]),
        ("details", "Configuration", True),
        ("cite", "Cite", True),
    )
    return [(anchor, name) for anchor, name, present in offered if present]
