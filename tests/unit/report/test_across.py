"""Data sets nobody was trained on: what they lack is said, and their numbers stand beside home."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regaze.report import across
from regaze.report.across import DatasetEntry
from regaze.report.page import write_report


def written(finished, foreign, folder):
    home = DatasetEntry("test", finished.models, finished.reader, finished.pairs)
    files = folder / "index.html", folder / "comparison.csv"
    write_report(*files, [home, *foreign], grid_rows=2)
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(finished, abroad, tmp_path_factory):
    folder = tmp_path_factory.mktemp("across")
    written(finished, [abroad], folder)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def part_of(html, anchor):
    return re.search(rf'<section id="{anchor}">(.*?)</section>', html, re.DOTALL).group(1)


def test_foreign_data_set_has_its_own_part(html):
    part = part_of(html, "on-photos--1-")
    assert "<h2>photos &lt;1&gt;</h2>" in part and "trained on test" in part
    assert "12 gaze-and-head pairs" in part and "3 of 27 rows" in part and "frame check" in part
    assert part.count("data:image/webp") > 5 and "Gaze and head:" in part
    assert "photos <1>" not in html


def test_kinds_without_pairs_are_named(html):
    part = part_of(html, "on-photos--1-")
    for kind in ("gaze only", "head only"):
        assert re.search(f"No {kind} pairs .*no pairs of this kind were sampled", part)
    assert "Gaze and head <span>" in part and "Gaze only <span>" not in part


def test_home_numbers_stand_beside(finished, abroad, html):
    home = next(entry for entry in finished.models if entry.name == "xunet")
    numbers = pd.read_parquet(home.per_pair)
    at_home = numbers.loc[numbers["kind"] == "gaze_and_head", "gaze_error_deg"].mean()
    assert f'<span class="home">home {at_home:.2f}</span>' in part_of(html, "on-photos--1-")
    assert '<span class="home">' not in part_of(html, "comparison")


def test_cross_table_has_methods_by_data_sets(finished, abroad):
    home = DatasetEntry("test", finished.models, finished.reader, finished.pairs).loaded()
    found = across.cross_table([home, abroad.loaded()])
    assert [(span["name"], span["columns"]) for span in found["spans"]] == [
        ("test", 2),
        ("photos <1>", 1),
    ]
    assert found["kinds"] == ["gaze only", "gaze and head", "gaze and head"]
    assert found["missing"] == ["photos <1>, gaze only: no pairs of this kind were sampled"]
    titles = [row["title"] for row in found["rows"]]
    assert titles[0] == "true image" and titles[-2] == "source, unchanged"
    alone = found["rows"][-1]["cells"]
    assert [cell["text"] for cell in alone] == ["2.00", "2.00", "6.00"]
    lite = found["rows"][titles.index("lite")]["cells"]
    assert all(cell["interval"] for cell in lite)


def test_verdict_says_how_much_carries_over(html):
    assert re.search(r"On photos &lt;1&gt;, never trained on, lite misses by [0-9.]+°", html)
    assert "Without further training they did the same on photos &lt;1&gt;." in html


def test_table_names_the_data_set(folder):
    table = pd.read_csv(folder / "comparison.csv")
    counts = table.groupby("dataset").size()
    assert counts["test"] == 15 and list(table["dataset"].iloc[[0, -1]]) == ["test", "photos <1>"]
    empty = table[(table["dataset"] == "photos <1>") & (table["kind"] == "head_only")]
    assert empty["gaze_error_deg"].isna().all()
    assert (empty["gaze_error_deg_reason"] == "no pairs of this kind were sampled").all()


def test_estimator_alone_says_why_it_is_missing(finished, abroad):
    loaded = abroad.loaded()
    without = [entry for entry in abroad.models if entry.name != "copy"]
    bare = DatasetEntry("x", without, abroad.faces, abroad.pairs).loaded()
    assert "no readings" in across.estimator_alone(bare)["reason"]
    unknown = loaded.pairs.assign(source_gaze=[np.full(2, np.nan, np.float32)] * len(loaded.pairs))
    blind = DatasetEntry("x", abroad.models, abroad.faces, unknown).loaded()
    assert across.estimator_alone(blind)["reason"] == "no source photo has a known gaze"


def test_least_foreign_data_set_is_a_part_too(finished, abroad, tmp_path):
    """Only metrics are there: no samples, nothing per pair, no method that home has."""
    entry = next(entry for entry in abroad.models if entry.name == "xunet")
    bare = type(entry)(name="xunet", metrics=entry.metrics)
    least = DatasetEntry("far", [bare], abroad.faces, abroad.pairs)
    text = written(finished, [least], tmp_path)
    part = part_of(text, "on-far")
    assert "No pictures: no method has samples." in part
    assert "None of 24 rows was rejected" in part
    assert "not evaluated on far" in part_of(text, "across")


def scored(data, **entry):
    """The data set with one number, or none, in place of all that was measured on it."""
    metrics = {"gaze_and_head": {"gaze_error_deg": entry}}
    return replace(data, results=[replace(r, metrics=metrics) for r in data.results])


def test_a_data_set_without_any_gaze_error_says_so(finished, abroad):
    home = DatasetEntry("test", finished.models, finished.reader, finished.pairs).loaded()
    lost = scored(abroad.loaded(), mean=None, reason="no labels")
    assert across.transfer_sentences([home, lost]) == (
        "On photos <1> no gaze error could be measured for any method.",
    )
    unpaired = replace(lost, pairs=lost.pairs.iloc[:0])
    part = across.foreign_part(unpaired, home, 2)
    assert part["grid"] is None and part["no_grid"] == "there are no pairs with a true image"
    found = across.cross_table([lost])
    assert found["missing"] == [
        "photos <1>, gaze only: not measured",
        "photos <1>, gaze and head: no labels",
    ]
    assert [row["cells"] for row in found["rows"]] == [[]] * len(lost.results)


def test_a_number_without_an_interval_stands_alone(abroad):
    (cell,) = across.cross_table([scored(abroad.loaded(), mean=2.0)])["rows"][0]["cells"]
    assert (cell["text"], cell["interval"]) == ("2.00", "")


def test_a_data_set_twice_and_a_missing_file_are_named(finished, abroad, tmp_path):
    with pytest.raises(ValueError, match="expected each once, found test, test"):
        again = DatasetEntry("test", abroad.models, abroad.faces, abroad.pairs)
        written(finished, [again], tmp_path)
    with pytest.raises(ValueError, match="expected each once, found none"):
        write_report(tmp_path / "index.html", tmp_path / "comparison.csv", [])
    lost = DatasetEntry("far", abroad.models, abroad.faces, tmp_path / "none.parquet")
    with pytest.raises(FileNotFoundError, match=r"data set far: .*none\.parquet"):
        written(finished, [lost], tmp_path)
