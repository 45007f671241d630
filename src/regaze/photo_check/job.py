"""One call of ``regaze photo-check``: from the command's options to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regaze.estimators.xgaze import load_xgaze
from regaze.identity.store import load_recogniser
from regaze.outputs import write_json
from regaze.photo_check.check import Checked, PhotoCheck, listed
from regaze.photo_check.measures import Judge
from regaze.photo_check.results import rows_of, summary, table, write_csv
from regaze.photo_check.sheet import MOST, draw_sheet, write_sheet
from regaze.redirect.models import (
    model_folder,
    models_in,
    open_estimator,
    preferred,
    sampling_of,
)
from regaze.redirect.run import Redirection
from regaze.weights import read_record


def run_check(
    places: Sequence[str],
    *,
    model: str | None,
    models: Path,
    estimators: Sequence[str] = (),
    judges: Sequence[Path] = (),
    reach: tuple[float, float],
    adjust: Mapping[str, Any] | None = None,
    steps: int | None = None,
    out: Path,
    device: str = "auto",
    settings=None,
) -> Iterator[str]:
    """Check photos; writes ``check.json``, ``check.csv`` and ``sheet.png`` and yields lines.

    Args:
        places: photos and folders of photos.
        model: name of a redirector below ``models``, or its folder; None: as for redirecting.
        models: folder of trained models, with the estimators and ``identity``.
        estimators: names of those that read the photos; none: the best one.
        judges: checkpoints of :func:`regaze.estimators.xgaze.load_xgaze`.
        reach: half axes of the directions in degrees.
        adjust: options of :class:`regaze.redirect.run.Redirection`.
        steps: of the sampler.
        out: folder to write.
        device: ``auto``, ``cpu`` or ``cuda``.
        settings: the checked configuration or None.

    Raises:
        ValueError, OSError: options or files that cannot be used, or no photo that can; nothing is
            written then.
    """
    if not all(np.isfinite(reach)) or min(reach) <= 0 or max(reach) > 45:
        raise ValueError(f"reach: expected degrees above 0 and up to 45, found {reach}")
    photos = listed(places)
    folder = model_folder(models, model or preferred(models))
    view = read_record(folder / "model.json").get("view")
    best = open_estimator(models, None, view)
    engine = Redirection(
        folder, sampling_of(folder, settings, steps), best, device, **(adjust or {})
    )
    found = [Judge.of(load_xgaze(one)) for one in judges]
    chosen = [open_estimator(models, one) for one in estimators] if estimators else [best]
    found += [Judge.of(one) for one in chosen if one is not None]
    known = models_in(models, "identity")
    recogniser = load_recogniser(models / min(known)) if known else None
    check = PhotoCheck(engine, found, recogniser, reach)
    done, left_out = [], []
    for one in check.all(photos):
        if isinstance(one, Checked):
            done.append(one)
        else:
            left_out.append(one)
            yield f"left out: {one['reason']}"
    if not done:
        raise ValueError(
            f"none of {len(left_out)} photos could be checked; the first: {left_out[0]['reason']}"
        )
    names = [judge.name for judge in found]
    rows = rows_of(done)
    measured = summary(rows, names)
    content = {
        **engine.describe(),
        "reach_deg": list(reach),
        "judges": {judge.name: judge.facts for judge in found},
        "identity": None if recogniser is None else recogniser.fingerprint,
        "measured": measured,
        "photos": [_about(one) for one in done],
        "left_out": left_out,
    }
    write_json(out / "check.json", content)
    write_csv(out / "check.csv", rows)
    name = engine.record["name"]
    write_sheet(out / "sheet.png", draw_sheet(done, names, f"{name}: asked for, and read"))
    yield f"{name}: {len(done)} photos, {len(rows) // 2} redirections; {len(left_out)} left out"
    for judge in found:
        yield from (f"told: {reason}" for reason in judge.facts.get("reads_little_of", {}).values())
    if recogniser is None:
        yield f"identity distance unknown: no identity network in {models}"
    yield from table(measured, names)
    if len(done) > MOST:
        yield f"sheet.png shows the first {MOST} photos"
    yield f"what was measured: {out / 'check.json'}, {out / 'check.csv'}, {out / 'sheet.png'}"


def _about(photo: Checked) -> dict:
    """What is known of a photo besides its readings."""
    kept = ("source_gaze_deg", "source_gaze_from", "source_head_deg", "aligned", "colours")
    judged = {name: np.degrees(one).tolist() for name, one in photo.judged.items()}
    return {**{key: photo.facts[key] for key in kept}, "photo": photo.source, "read_deg": judged}
