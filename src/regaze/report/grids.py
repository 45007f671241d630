"""Grids of source, target and every method's picture, as data for the page and as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from regaze.faces import FacesReader
from regaze.factors import CODED, KINDS, factors_named, factors_of
from regaze.outputs import replacing
from regaze.report.drawing import INK, MUTED, PAPER, RULE, dial, fitted, font
from regaze.report.inputs import read_per_pair
from regaze.samples import Samples

ROWS = factors_named(CODED)
"""All factors, by name."""


@dataclass(frozen=True)
class GridRow:
    """One pair of a grid.

    Attributes:
        pair: number of the pair.
        person: who is shown.
        source: (H,W,3) uint8 patch, reduced to the samples' size.
        target: the true target like ``source``, or None where no picture of it exists.
        pictures: model to (H,W,3) uint8; a model without a sample of this pair is absent.
        errors: model to the errors of factors by name, such as ``{"gaze": degrees}``, as far as
            known.
        directions: of every factor ``source_<name>`` and ``target_<name>``, as they are printed:
            degrees (pitch, yaw) of directions.
    """

    pair: int
    person: str
    source: np.ndarray
    target: np.ndarray | None
    pictures: Mapping[str, np.ndarray]
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    directions: Mapping[str, np.ndarray] = field(default_factory=dict)


def choose_pairs(pairs: pd.DataFrame, kind: str, count: int) -> pd.DataFrame:
    """Return up to ``count`` pairs of a kind, spread over the persons and never over results.

    The first drawn pair of every person is taken, then the second, and so on, until there are
    enough; a sample of them is then evenly spaced over persons in name order.
    """
    chosen = pairs[pairs["kind"] == kind].sort_values("pair")
    if len(chosen) <= count:
        return chosen
    turn = chosen.groupby("person").cumcount()
    ordered = chosen.assign(turn=turn).sort_values(["turn", "person", "pair"])
    first = ordered[ordered["turn"] == 0]
    if len(first) >= count:
        where = np.linspace(0, len(first) - 1, count).round().astype(int)
        ordered = first.iloc[where]
    return ordered.head(count).drop(columns="turn")


def collect(
    faces: FacesReader,
    pairs: pd.DataFrame,
    samples_by_model: Mapping[str, Samples | str | Path],
    kind: str,
    count: int,
    per_pair_by_model: Mapping[str, pd.DataFrame | str | Path] | None = None,
) -> list[GridRow]:
    """Gather the pictures and errors of a grid.

    Args:
        faces: the stored patches.
        pairs: all pairs, see :mod:`regaze.pairs`.
        samples_by_model: per model its samples or their file; order is the order of the columns.
        kind: kind of pairs to show.
        count: at most so many rows.
        per_pair_by_model: per model its per-pair table or file, for the errors.

    Returns:
        One :class:`GridRow` per chosen pair; pictures of the faces file are reduced to the
        largest sample size by area, so that no column looks sharper for its storage alone.
    """
    samples = {name: _samples(value) for name, value in samples_by_model.items()}
    chosen = choose_pairs(pairs, kind, count)
    numbers = [int(number) for number in chosen["pair"]]
    pictures = {name: store.pictures(numbers) for name, store in samples.items()}
    errors = {name: _errors(table, numbers) for name, table in (per_pair_by_model or {}).items()}
    sizes = [store.size for store in samples.values()]
    size = max(sizes) if sizes else faces.patch_size
    rows = []
    for record in chosen.itertuples(index=False):
        number = int(record.pair)
        source = faces.pixels([faces.global_index(record.person, record.source_index)])[0]
        target = None
        if record.target_index >= 0:
            target = faces.pixels([faces.global_index(record.person, record.target_index)])[0]
            target = fitted(target, size)
        given = {
            f"{side}_{name}": factor.shown(np.asarray(getattr(record, f"{side}_{name}")))
            for name, factor in factors_of(chosen.columns).items()
            for side in ("source", "target")
        }
        rows.append(
            GridRow(
                pair=number,
                person=str(record.person),
                source=fitted(source, size),
                target=target,
                pictures={m: found[number] for m, found in pictures.items() if number in found},
                errors={m: found[number] for m, found in errors.items() if number in found},
                directions=given,
            )
        )
    return rows


def redirection_grid(
    faces: FacesReader,
    pairs: pd.DataFrame,
    samples_by_model: Mapping[str, Samples | str | Path],
    out_png: str | Path,
    *,
    kind: str,
    n: int = 8,
    per_pair_by_model: Mapping[str, pd.DataFrame | str | Path] | None = None,
) -> None:
    """Write a labelled grid ``asked for | source | target | each model`` as PNG.

    Args:
        faces, pairs, samples_by_model, kind, per_pair_by_model: as in :func:`collect`.
        out_png: file to write; the same input gives the same bytes.
        n: at most so many rows.

    Raises:
        ValueError: there is no pair of this kind.
    """
    rows = collect(faces, pairs, samples_by_model, kind, n, per_pair_by_model)
    if not rows:
        raise ValueError(f"pairs: expected at least one pair of kind {kind!r}, found none")
    image = draw_grid(rows, list(samples_by_model), kind)
    with replacing(out_png) as part:
        image.save(part, format="PNG", optimize=False)


def draw_grid(
    rows: Sequence[GridRow], models: Sequence[str], kind: str, cell: int = 128
) -> Image.Image:
    """Draw the grid of :func:`redirection_grid` and return it as an RGB picture.

    ``cell`` is the side of a picture in pixels; samples are enlarged to it by Lanczos.
    """
    margin, gap, head, caption, asked = 12, 4, 30, 17, max(cell, 112)
    apart = 10  # what the method produced stands apart from what it was given
    has_errors = any(row.errors for row in rows)
    caption = caption if has_errors else 0
    columns = ["source", "target", *models]
    left = [margin + asked + gap]
    for number in range(1, len(columns)):
        left.append(left[-1] + cell + (apart if number == 2 else gap))
    pitch = cell + caption + gap
    legend = 22
    size = (left[-1] + cell + margin, margin + head + pitch * len(rows) + legend + margin)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    middle = margin + head // 2
    heading = KINDS[kind].title
    draw.text((margin, middle), heading, INK, font(14, bold=True), anchor="lm")
    for name, x in zip(columns, left, strict=True):
        draw.text((x + cell // 2, middle), name, INK, font(13, bold=True), anchor="mm")
    for number, row in enumerate(rows):
        top = margin + head + number * pitch
        if number:
            draw.line([(margin, top - gap // 2), (size[0] - margin, top - gap // 2)], RULE)
        _draw_asked(canvas, row, kind, (margin, top), asked, cell)
        for name, x in zip(columns, left, strict=True):
            _draw_cell(canvas, row, name, kind, (x, top), cell)
    note = "dial: ○ source, ● asked for; pitch up is +, yaw to the image's left is +"
    draw.text((margin, size[1] - margin), note, MUTED, font(11), anchor="ls")
    return canvas


def _draw_asked(canvas, row, kind, corner, width, cell) -> None:
    x, y = corner
    draw = ImageDraw.Draw(canvas)
    radius = int(cell * 0.24)
    centre = (x + width // 2, y + radius + 8)
    parts = [part for part in KINDS[kind].factors if f"source_{part}" in row.directions]
    shown = next((part for part in parts if ROWS[part].directional), None)
    if shown is not None:
        start, end = row.directions[f"source_{shown}"], row.directions[f"target_{shown}"]
        dial(draw, centre, radius, end, start=start)
    line = y + 2 * radius + 22
    for part in parts:
        text = change_text(part, row.directions)
        draw.text((x + width // 2, line), text, MUTED, font(10), anchor="mm")
        line += 14
    draw.text((x + width // 2, line), row.person, MUTED, font(10), anchor="mm")


def _draw_cell(canvas, row, name, kind, corner, cell) -> None:
    x, y = corner
    draw = ImageDraw.Draw(canvas)
    given = {"source": row.source, "target": row.target}
    picture = given[name] if name in given else row.pictures.get(name)
    if picture is None:
        draw.rectangle([x, y, x + cell - 1, y + cell - 1], outline=RULE)
        text = "no picture" if name == "target" else "not sampled"
        draw.text((x + cell // 2, y + cell // 2), text, MUTED, font(11), anchor="mm")
    else:
        enlarged = Image.fromarray(fitted(picture, (cell, cell)))
        canvas.paste(enlarged, (x, y))
    text = error_text(row.errors.get(name, {}), kind)
    if text:
        draw.text((x + cell // 2, y + cell + 9), text, MUTED, font(11), anchor="mm")


def error_text(errors: Mapping[str, float], kind: str) -> str:
    """Return a cell's caption: the errors of the factors that change in a kind of pairs."""
    wanted = KINDS[kind].factors
    known = {part: ROWS[part].text(errors[part]) for part in wanted if part in errors}
    known = {part: text for part, text in known.items() if np.isfinite(errors[part])}
    if len(wanted) == 1:
        return "".join(known.values())
    return " ".join(f"{part}\N{NO-BREAK SPACE}{text}" for part, text in known.items())


def change_text(part: str, directions: Mapping[str, np.ndarray]) -> str:
    """Return from where to where a factor shall go, as in :attr:`GridRow.directions`.

    Of codes, which are too many numbers, by how much.
    """
    if part in CODED:
        both = (directions[f"{side}_{part}"][None] for side in ("source", "target"))
        return f"{part} by {CODED[part].text(CODED[part].difference(*both)[0])}"
    start, end = (numbers_text(directions[f"{side}_{part}"]) for side in ("source", "target"))
    return f"{part} {start} → {end}"


def numbers_text(values: np.ndarray) -> str:
    """Return a factor's numbers as they are printed, whole and with their signs."""
    return ",".join(f"{value:+.0f}" for value in np.atleast_1d(values)).replace("-", "−")


def _samples(value) -> Samples:
    return value if isinstance(value, Samples) else Samples(value)


def _errors(table, numbers) -> dict[int, dict[str, float]]:
    frame = table if isinstance(table, pd.DataFrame) else read_per_pair(table)
    frame = frame[frame["pair"].isin(numbers)]
    columns = {name: factor.column("error") for name, factor in ROWS.items()}
    found = {}
    for record in frame.to_dict("records"):
        values = {part: record.get(column) for part, column in columns.items()}
        found[int(record["pair"])] = {k: float(v) for k, v in values.items() if v is not None}
    return found
