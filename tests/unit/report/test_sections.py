"""Parts of the page by themselves: what is missing is left out or said, and nothing breaks."""

import base64
import io
import json
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from regaze.report import sections
from regaze.report.inputs import EstimatorEntry, ModelEntry, Results, read_results
from regaze.samples import Samples


@pytest.fixture(scope="module")
def methods(finished):
    return [one for one in read_results(finished.models) if one.name in ("xunet", "lite")]


def sampled(result, path, pairs):
    with h5py.File(path, "w") as file:
        file["pixels"] = np.zeros((len(pairs), 16, 16, 3), np.uint8)
        file["pair"] = pairs
    return replace(result, samples=Samples(path))


@pytest.mark.parametrize(
    ("columns", "caption"),
    [
        (
            {"loss": [2.0] * 40 + [1.0] * 10},
            "loss −50 % from the fourth to the last fifth",
        ),
        ({"loss": [2.0] * 50}, "loss unchanged from the fourth to the last fifth"),
        (
            {"loss": [2.0, 1.0], "images": [8, 1600], "seconds": [1, 9000]},
            "1.6 k images, 2.5 h",
        ),
        (
            {"loss": [np.nan, 1.0], "images": np.nan, "val_gaze_deg": [4.2, np.nan]},
            "validation gaze 4.20°",
        ),
        ({"loss": [1.0]}, ""),
    ],
)
def test_captions_of_curves_say_what_was_logged(columns, caption):
    assert sections.curve_caption(pd.DataFrame(columns)) == caption


def test_a_training_that_has_not_logged_yet_has_no_curve(methods):
    begun = replace(methods[0], curve=methods[0].curve.iloc[:0])
    assert len(sections.curve_plots(methods, [])) == 2
    (only,) = sections.curve_plots([begun, methods[1]], [])
    assert "Training loss of lite" in only["plot"]


def test_scores_that_no_method_has_are_not_drawn():
    null = {"mean": None, "reason": "no labels"}
    metrics = {"gaze_and_head": {"gaze_error_deg": {"mean": 4.0}, "head_error_deg": null}}
    entry = ModelEntry("net", "metrics.json")
    (plot,) = sections.overview_plots([Results(entry, metrics, None, None, {}, {}, None, 0)])
    assert "Gaze error, gaze and head: net 4" in plot


def test_kinds_without_pairs_have_no_grid(methods, finished):
    pairs = finished.pairs[finished.pairs["kind"] == "gaze_and_head"]
    (grid,) = sections.grid_sections(methods, finished.reader, pairs, 1)
    assert grid["title"].startswith("Gaze and head: ") and len(grid["rows"]) == 1


def test_no_sweep_without_a_run_that_all_have_begun(methods, finished, tmp_path):
    first, second = (
        group["pair"].tolist()
        for _, group in finished.pairs[finished.pairs["kind"] == "sweep"].groupby("person")
    )
    free = finished.pairs.loc[finished.pairs["kind"] == "gaze_and_head", "pair"].tolist()
    shown = [finished.reader, finished.pairs]
    unswept = finished.pairs[finished.pairs["kind"] != "sweep"]
    assert sections.sweep_section(methods, finished.reader, unswept) is None
    none = [sampled(one, tmp_path / f"{one.name}.h5", free) for one in methods]
    assert sections.sweep_section(none, *shown) is None
    apart = [
        sampled(one, tmp_path / f"{one.name}-apart.h5", pairs)
        for one, pairs in zip(methods, (first, second), strict=True)
    ]
    assert sections.sweep_section(apart, *shown) is None
    alone = sections.sweep_section([apart[0], none[1]], *shown)
    assert (alone["persons"], alone["absent"]) == (1, ["lite"])


def test_what_an_estimator_does_not_record_is_a_dash(tmp_path):
    records = {"a": {"held_out": {"gaze_deg": 3.5}}, "b": {"parameters": 2000}}
    for name, record in records.items():
        (tmp_path / name).write_text(json.dumps(record))
    table = sections.estimator_table([EstimatorEntry(name, tmp_path / name) for name in records])
    assert table["columns"] == ["Gaze error", "Parameters"]
    assert [row["cells"] for row in table["rows"]] == [["3.50°", "—"], ["—", "2 k"]]


def test_rejections_are_ordered_by_number():
    table = pd.DataFrame({"reason": ["b", "a", "a"], "person": "p", "file_name": "p/1.jpg"})
    found = sections.rejected_summary(table, kept=97)
    assert [row["reason"] for row in found["rows"]] == ["a", "b"]
    assert found["rows"][0]["share"] == "2 %"


@pytest.mark.parametrize("file", ["p1/00001.jpg", "00001.jpg"])
def test_examples_of_rejected_rows_name_the_person(file):
    table = pd.DataFrame({"reason": ["blurred"], "person": ["p1"], "file_name": [file]})
    assert sections.rejected_summary(table, 1)["rows"][0]["example"] == "p1/00001.jpg"


def test_wide_contact_sheets_are_reduced(tmp_path):
    Image.new("RGB", (300, 60), (90, 60, 30)).save(tmp_path / "sheet.png")
    sizes = []
    for width in (400, 100):
        uri = sections.contact_sheet_uri(tmp_path / "sheet.png", width)
        sizes.append(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size)
    assert sizes == [(300, 60), (100, 20)]
