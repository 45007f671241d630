"""Contents of the page's sections as plain values for the template."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from regaze.faces import FacesReader
from regaze.factors import CODED, FACTORS, GAZE_AND_HEAD, KINDS
from regaze.report import figures, grids, sweeps, tables
from regaze.report.drawing import dial_position
from regaze.report.inputs import EstimatorEntry, Results, read_curve, read_mapping

_LIKENESS = ("psnr", "ssim", "eye_psnr", "identity_similarity", "frechet")
_WORDS = {"gaze_deg": "Gaze error", "head_deg": "Head error", "n": "Pictures", "list": "On"}


def data_uri(content: bytes, mime: str) -> str:
    """Return bytes as a data URI."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def picture_uri(picture: np.ndarray | Image.Image, *, quality: int | None = None) -> str:
    """Return a picture as a WebP data URI, lossless unless a ``quality`` is given."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    if quality is None:
        image.save(stream, format="WEBP", lossless=True, quality=80, method=4, exact=True)
    else:
        image.save(stream, format="WEBP", quality=quality, method=4)
    return data_uri(stream.getvalue(), "image/webp")


def comparison_table(
    all_results: Sequence[Results],
    *,
    costs: bool = True,
    home: Mapping[str, Results] | None = None,
) -> dict:
    """Return columns, groups of rows by kind, and numbered notes of missing and doubtful values.

    Args:
        all_results: the rows.
        costs: whether time, network runs and parameters are columns.
        home: results of the same methods on the data set that they were trained on; their
            numbers are given beside.
    """
    empty = tables.empty_kinds(all_results)
    columns = [
        column
        for column in tables.METRICS + tables.extra_columns(all_results)
        if any(
            tables.metric_of(results, kind, column.key)["mean"] is not None
            for results in all_results
            for kind in tables.KINDS
        )
    ]
    columns += tables.COSTS if costs else ()
    notes: dict[str, int] = {}
    groups = []
    for kind in tables.KINDS:
        measured = [results for results in all_results if kind in results.metrics]
        if not measured or kind in empty:
            continue
        marks = [tables.best_methods(measured, kind, column) for column in columns]
        rows = []
        for results in measured:
            same = (home or {}).get(results.name)
            cells = [
                _cell(results, kind, column, tables.marked(results.name, best), notes)
                | {"home": _home_text(same, kind, column)}
                for column, best in zip(columns, marks, strict=True)
            ]
            rows.append(tables.row(results, cells, "" if groups else tables.told(results)))
        counts = [tables.counts_of(results, kind) for results in measured]
        about = [KINDS[kind].about]
        for known, what in zip(zip(*counts, strict=True), ("pairs", "persons"), strict=True):
            known = [number for number in known if number is not None]
            about += [f"{max(known)} {what}"] if known else []
        groups.append({"title": KINDS[kind].title, "about": ", ".join(about), "rows": rows})
    absent = [
        f"No {KINDS[kind].title.lower()} pairs ({KINDS[kind].about}): {reason}"
        for kind, reason in empty.items()
    ]
    return {"columns": tables.heads(columns), "groups": groups, "notes": notes, "absent": absent}


def _home_text(results: Results | None, kind: str, column: tables.Column) -> str:
    if results is None or (results.role == "floor" and column.key in _LIKENESS):
        return ""
    value = tables.metric_of(results, kind, column.key)["mean"]
    return "" if value is None else tables.text_of(value, column)


def _cell(results, kind, column, mark, notes) -> dict:
    value = tables.value_of(results, kind, column)
    if results.role == "floor" and column.key in _LIKENESS:
        value = {"mean": None, "reason": tables.ITSELF}
    return tables.cell(value, column, notes, mark)


def _decisive() -> Iterator[tuple[str, str, str]]:
    """Every factor where it changes alone and where all do: its name, kind of pairs, heading."""
    for name in (*FACTORS, *CODED):
        for kind in (f"{name}_only", GAZE_AND_HEAD):
            yield name, kind, f"{tables.ERRORS[name].title}, {KINDS[kind].title.lower()}"


def overview_plots(all_results: Sequence[Results]) -> list[Markup]:
    """Return dot plots of the scores that decide: of each factor alone and with all others."""
    plots = []
    for name, kind, title in _decisive():
        column = tables.ERRORS[name]
        key = column.key
        rows, bounds = [], {}
        for results in all_results:
            value = tables.metric_of(results, kind, key)
            if value["mean"] is None:
                continue
            if results.role != "method":
                bounds[results.role] = value["mean"]
                continue
            low, high = tables.interval_of(value)
            row = {
                "title": tables.shown_title(results),
                "slot": results.slot,
                "mean": value["mean"],
            }
            rows.append({**row, "low": low, "high": high})
        if not rows:
            continue
        unit = tables.unit_words(column)
        figure = figures.dots(rows, title=title, xlabel=unit, better=column.better, **bounds)
        said = "; ".join(f"{row['title']} {row['mean']:.3g}" for row in rows)
        plots.append(Markup(figures.inline_svg(figure, f"{kind}-{key}", f"{title}: {said}")))
    return plots


def angle_plots(all_results: Sequence[Results]) -> tuple[list[Markup], list[dict]]:
    """Return the panels of error against redirection angle, and their common legend."""
    series = [
        figures.Series(
            tables.shown_title(results), results.per_pair, results.role, max(0, results.slot)
        )
        for results in all_results
        if results.per_pair is not None
    ]
    plots = []
    for name, kind, title in _decisive():
        if name in CODED or not FACTORS[name].directional:
            continue
        columns = {"kind": kind, "error": tables.ERRORS[name].key, "angle": FACTORS[name].moved}
        usable = [one for one in series if len(figures.points(one, **columns))]
        if not any(one.role == "method" for one in usable):
            continue
        texts = {"title": title, "xlabel": f"{name} turned by"}
        figure = figures.error_against_angle(usable, **columns, **texts)
        names = ", ".join(one.title for one in usable)
        salt = f"angle-{kind}-{columns['error']}"
        plots.append(Markup(figures.inline_svg(figure, salt, f"{title} by angle: {names}")))
    dashes = {"floor": "2 3", "ceiling": "6 3"}
    legend = [
        {
            "title": one.title,
            "dash": dashes.get(one.role, ""),
            "colour": f"var(--s{one.slot % 10})" if one.role == "method" else "var(--muted)",
        }
        for one in series
    ]
    return (plots, legend) if plots else ([], [])


def curve_plots(all_results: Sequence[Results], estimators: Sequence[EstimatorEntry]) -> list[dict]:
    """Return a training curve and a caption per method and estimator that has one."""
    found = [(r.title, r.curve, r.slot) for r in all_results if r.curve is not None]
    start = max((r.slot for r in all_results), default=-1) + 1
    for number, entry in enumerate(estimators):
        if entry.curve is not None:
            found.append((entry.name, read_curve(entry.curve), start + number))
    plots = []
    for title, curve, slot in found:
        if not len(curve):
            continue
        figure = figures.training_curve(curve, title, slot)
        said = f"Training loss of {title}, from {curve['loss'].iloc[0]:.3g} to "
        said += f"{curve['loss'].iloc[-1]:.3g}"
        plot = Markup(figures.inline_svg(figure, f"curve-{title}", said))
        plots.append({"plot": plot, "caption": curve_caption(curve)})
    return plots


def curve_caption(curve: pd.DataFrame) -> str:
    """Return how long training took and by how much the loss fell in its last fifth."""
    parts = []
    if "images" in curve and curve["images"].notna().any():
        parts.append(f"{tables.short_count(float(curve['images'].max()))} images")
    if "seconds" in curve and curve["seconds"].notna().any():
        seconds = float(curve["seconds"].max())
        parts.append(f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h")
    losses = curve["loss"].to_numpy(float)
    losses = losses[np.isfinite(losses)]
    fifth = len(losses) // 5
    if fifth >= 2 and losses[-2 * fifth : -fifth].mean() > 0:
        change = losses[-fifth:].mean() / losses[-2 * fifth : -fifth].mean() - 1
        amount = f"{100 * change:+.0f} %".replace("-", "−") if abs(change) >= 0.005 else "unchanged"
        parts.append(f"loss {amount} from the fourth to the last fifth")
    for name, text in (("val_gaze_deg", "gaze"), ("val_head_deg", "head")):
        if name in curve and curve[name].notna().any():
            parts.append(f"validation {text} {curve[name].dropna().iloc[-1]:.2f}°")
    return ", ".join(parts)


def grid_sections(
    all_results: Sequence[Results],
    faces: FacesReader,
    pairs: pd.DataFrame,
    rows: int,
    kinds: Sequence[str] = tables.KINDS,
) -> list[dict]:
    """Return a grid per kind of pairs, pictures as lossless data URIs at their own size."""
    shown = [r for r in all_results if r.role == "method" and r.samples is not None]
    if not shown:
        return []
    stores = {results.name: results.samples for results in shown}
    per_pair = {r.name: r.per_pair for r in all_results if r.per_pair is not None}
    floor = next((r.name for r in all_results if r.role == "floor"), None)
    ceiling = next((r.name for r in all_results if r.role == "ceiling"), None)
    sections = []
    for kind in kinds:
        found = grids.collect(faces, pairs, stores, kind, rows, per_pair)
        if not found:
            continue
        columns = [(results.name, tables.shown_title(results)) for results in shown]
        lines = [grid_row(row, kind, columns, floor, ceiling) for row in found]
        models = [(tables.shown_title(results), results.slot) for results in shown]
        title = f"{KINDS[kind].title}: {KINDS[kind].about}"
        sections.append({"title": title, "models": models, "rows": lines})
    return sections


def grid_row(
    row: grids.GridRow,
    kind: str,
    columns: Sequence[tuple[str, str]],
    floor: str | None,
    ceiling: str | None,
) -> dict:
    """Return a row of a grid for the template.

    Args:
        row: its pictures and errors.
        kind: kind of pairs, which decides what errors and directions are told.
        columns: name and title of the made pictures, in order.
        floor, ceiling: under which names the errors of the true target and of the source are.
    """

    def item(picture, caption_of, alt) -> dict:
        caption = grids.error_text(row.errors.get(caption_of, {}), kind)
        uri = None if picture is None else picture_uri(picture)
        return {"uri": uri, "caption": caption, "alt": f"{alt}, {row.person}"}

    parts = [part for part in KINDS[kind].factors if f"source_{part}" in row.directions]
    lines = [grids.change_text(part, row.directions) for part in parts]
    made = [item(row.pictures.get(name), name, title) for name, title in columns]
    given = [item(row.source, ceiling, "source"), item(row.target, floor, "target")]
    dials = [dial_svg(row.directions, part) for part in parts if grids.ROWS[part].directional]
    return {"dials": dials, "lines": [*lines, row.person], "given": given, "made": made}


def dial_svg(directions: Mapping[str, np.ndarray], part: str) -> Markup:
    """Return the dial of one pair as an ``<svg>``: ring at the source, dot at the target."""
    sx, sy = (28 * v for v in dial_position(directions[f"source_{part}"]))
    ex, ey = (28 * v for v in dial_position(directions[f"target_{part}"]))
    label = f"{part} from {grids.numbers_text(directions[f'source_{part}'])} to "
    label += f"{grids.numbers_text(directions[f'target_{part}'])} degrees"
    return Markup(
        f'<svg class="dial" viewBox="-34 -34 68 68" role="img" aria-label="{label}">'
        '<g fill="none" stroke="var(--edge)"><circle r="32"/>'
        '<path d="M-32 0H32M0-32V32" stroke="var(--rule)"/></g>'
        f'<line x1="{sx:.1f}" y1="{sy:.1f}" x2="{ex:.1f}" y2="{ey:.1f}" stroke="var(--muted)"/>'
        f'<circle cx="{sx:.1f}" cy="{sy:.1f}" r="4.5" fill="var(--paper)" stroke="var(--muted)" '
        'stroke-width="1.6"/>'
        f'<circle cx="{ex:.1f}" cy="{ey:.1f}" r="4.8" fill="var(--accent)"/></svg>'
    )


def sweep_section(
    all_results: Sequence[Results], faces: FacesReader, pairs: pd.DataFrame, persons: int = 6
) -> dict | None:
    """Return the combined animation of all methods with sweep samples, or None without any."""
    runs = sweeps.sweep_runs(pairs)
    candidates = [r for r in all_results if r.role == "method" and r.samples is not None]
    shown = [r for r in candidates if any(run.pairs[0] in r.samples for run in runs)]
    usable = sweeps.usable_runs(pairs, {r.name: r.samples for r in shown})[:persons]
    if not usable:
        return None
    frames = sweeps.sweep_frames(faces, usable, [r.samples for r in shown], 128, paper=None)
    absent = [tables.shown_title(r) for r in all_results if r.role == "method" and r not in shown]
    return {
        "names": ["source", *(tables.shown_title(results) for results in shown)],
        "uri": data_uri(sweeps.encode(frames, "webp"), "image/webp"),
        "still": picture_uri(frames[0], quality=85),
        "absent": absent,
        "persons": len(usable),
    }


def estimator_table(estimators: Sequence[EstimatorEntry]) -> dict | None:
    """Return held-out errors and sizes of the estimators, or None without estimators."""
    rows, columns = [], {}
    for entry in estimators:
        record = read_mapping(entry.model)
        values = dict(record.get("held_out") or {})
        known = ("images_seen", "parameters")
        values |= {name: record[name] for name in known if record.get(name) is not None}
        columns.update(dict.fromkeys(values))
        rows.append({"name": entry.name, "purpose": entry.purpose, "record": values})
    if not rows:
        return None
    for row in rows:
        row["cells"] = [_held_out(name, row["record"].get(name)) for name in columns]
    return {"columns": [_words(name) for name in columns], "rows": rows}


def _held_out(name: str, value) -> str:
    if value is None:
        return "—"
    if name in ("parameters", "images_seen"):
        return tables.short_count(float(value))
    if isinstance(value, float):
        return f"{value:.2f}" + ("°" if name.endswith("_deg") else "")
    return str(value)


def _words(name: str) -> str:
    if name in _WORDS:
        return _WORDS[name]
    text = name.removesuffix("_deg").replace("_", " ")
    return text[:1].upper() + text[1:]


def rejected_summary(rejected: pd.DataFrame, kept: int, losses: Sequence[str] = ()) -> dict:
    """Return the rejected rows by reason, most frequent first, with sentences about them."""
    total = kept + len(rejected)
    if not len(rejected):
        sentence = f"None of {total:,} rows was rejected."
        return {"losses": losses, "rows": [], "sentence": sentence}
    rows = []
    for reason, part in rejected.groupby("reason", sort=True):
        person, example = (str(part[name].iloc[0]) for name in ("person", "file_name"))
        rows.append(
            {
                "reason": str(reason),
                "count": len(part),
                "share": f"{100 * len(part) / total:.2g} %",
                "persons": part["person"].nunique(),
                "example": example if example.startswith(person) else f"{person}/{example}",
            }
        )
    rows.sort(key=lambda row: (-row["count"], row["reason"]))
    share = 100 * len(rejected) / total
    sentence = (
        f"{len(rejected):,} of {total:,} rows ({share:.2g} %) were rejected; the rest is what "
        "everything above was made from."
    )
    return {"losses": losses, "rows": rows, "sentence": sentence}


def contact_sheet_uri(path: str | Path, width: int = 2000) -> str:
    """Return a contact sheet as a data URI, no wider than ``width`` pixels.

    Raises:
        FileNotFoundError: no such file.
    """
    with Image.open(path) as image:
        sheet = image.convert("RGB")
    if sheet.width > width:
        height = round(sheet.height * width / sheet.width)
        sheet = sheet.resize((width, height), Image.Resampling.LANCZOS)
    return picture_uri(sheet, quality=82)


def data_part(data, width: int = 2000) -> dict:
    """Return what is told of a data set: numbers, rejected rows, a contact sheet.

    Args:
        data: a :class:`regaze.report.across.LoadedDataset`.
        width: of the contact sheet at most, in pixels.
    """
    sheet = data.entry.contact_sheet
    return {
        "facts": facts(data.faces, data.pairs, data.results),
        "rejected": rejected_summary(data.rejected, len(data.faces), data.losses),
        "contact_sheet": contact_sheet_uri(sheet, width) if sheet else None,
    }


def facts(reader: FacesReader, pairs: pd.DataFrame, results: Sequence[Results]) -> list:
    """Return names and values of what a data set's faces and pairs are."""
    width, height = reader.patch_size or (0, 0)
    counts = pairs["kind"].value_counts()
    found = [
        ("Faces", f"{len(reader):,}"),
        ("Persons", f"{len(reader.persons):,}"),
        ("Patch", f"{width} × {height} px"),
    ]
    sizes = sorted({r.samples.size for r in results if r.samples and r.role == "method"})
    if sizes:
        found.append(("Redirected at", ", ".join(f"{w} × {h} px" for w, h in sizes)))
    for kind in tables.KINDS:
        if counts.get(kind):
            found.append((f"{KINDS[kind].label.capitalize()} pairs", f"{counts[kind]:,}"))
    for key, name in (("variant", "Normalisation"), ("source", "Source")):
        if reader.attributes.get(key):
            found.append((name, str(reader.attributes[key])))
    return found
