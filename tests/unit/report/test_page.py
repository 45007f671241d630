"""The page holds everything it needs, says what the numbers say, and repeats itself exactly."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import h5py
import numpy as np
import pandas as pd
import pytest

from regaze.faces import FacesReader
from regaze.normalise.rejections import Rejection, write_rejected
from regaze.report import citations, page, sections
from regaze.report.across import DatasetEntry
from regaze.report.inputs import read_results
from regaze.report.page import write_report


def written(finished, folder, **changes):
    root = finished.root
    arguments = {
        "estimators": finished.estimators,
        "config": {"seed": 0, "models": {"xunet": {"class": "xunet"}}},
        "versions": {"regaze": "0.1.0"},
        "grid_rows": 3,
    } | changes
    home = DatasetEntry(
        "test",
        arguments.pop("models", finished.models),
        root / "shard-000.h5",
        root / "pairs.parquet",
        arguments.pop("rejected", [root / "rejected.parquet"]),
        arguments.pop("contact_sheet", root / "sheet.png"),
    )
    write_report(folder / "index.html", folder / "comparison.csv", [home], **arguments)
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    written(finished, folder)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def pictures_only(finished):
    """Entries that give grids and little else, for tests of the page's size."""
    entry = next(entry for entry in finished.models if entry.name == "xunet")
    return [type(entry)(name="xunet", metrics=entry.metrics, samples=entry.samples)]


class Elements(HTMLParser):
    """Collects attributes and checks that elements close in order."""

    VOID = {"meta", "img", "link", "br", "hr", "source", "col", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "xlink:href") or (name, tag) == ("href", "link"):
                self.loaded.append(value)
            if name == "id":
                self.ids.append(value)
            if name == "href" and tag == "a":
                self.links.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def test_page_needs_nothing_but_itself(html):
    found = Elements()
    found.feed(html)
    assert found.open == []
    assert found.loaded and all(v.startswith(("data:image/", "#")) for v in found.loaded)
    assert "<script" not in html and "@import" not in html and "url(http" not in html
    assert all(v.startswith(("#", "https://arxiv.org/abs/")) for v in found.links)
    anchors = [link[1:] for link in found.links if link.startswith("#")]
    assert set(anchors) <= set(found.ids)
    assert all(v[1:] in found.ids for v in found.loaded if v.startswith("#"))


def test_ids_are_unique(html):
    found = Elements()
    found.feed(html)
    twice = {name for name in found.ids if found.ids.count(name) > 1}
    assert not twice


def test_page_shows_every_part(html):
    for anchor in ("comparison", "pictures", "sweep", "angles", "training", "estimators"):
        assert f'<section id="{anchor}">' in html
    assert "data:image/webp;base64," in html
    assert "3.63°" in html and "1.03 M" in html
    assert "class: xunet" in html and "regaze  0.1.0" in html


def test_dots_stand_beside_names_that_may_break(finished, tmp_path):
    # One row of a flex box: the dot never has a line of its own, however narrow the column is.
    entry = replace(pictures_only(finished)[0], name="xunet_student")
    html = written(finished, tmp_path, models=[entry])
    (heading,) = set(re.findall(r'<th scope="col">(<span class="key">.*?)</th>', html))
    assert re.fullmatch(
        r'<span class="key"><span class="swatch" style="[^"]+"></span>'
        r"<span>xunet_<wbr>student</span></span>",
        heading,
    )
    assert re.search(r"\.key \{[^}]*display: inline-flex", html)


def test_verdict_names_the_best_and_the_unlearned(html):
    verdict = re.search(r'<p class="verdict">(.*?)</p>', html, re.DOTALL).group(1)
    assert "30 gaze-only pairs" in verdict and "5 unseen persons" in verdict
    assert " lite misses" in verdict and "removable error is gone" in verdict
    assert "blind has learned little or no gaze" in html


def test_missing_metrics_say_why(html):
    assert "Not measured: frechet_estimator (fewer than two pairs)" in html
    assert "Not measured: lpips (no weights configured)" in html
    assert 'title="does not apply: nothing was trained or sampled"' in html


def test_texts_of_inputs_are_escaped(html):
    assert "&lt;unreadable&gt;" in html
    assert "gaze &amp; head" in html
    assert "<weights>" not in html and "<unreadable>" not in html


def test_rejected_rows_are_counted(html):
    assert "3 of 43 rows" in html
    assert "frame check" in html and "p00/frames/00009.jpg" in html


def test_persons_who_were_lost_are_named(finished, tmp_path):
    table, counts = tmp_path / "rejected.parquet", {"p01": 40, "<p09>": 0}
    write_rejected(table, [Rejection("<p09>", -1, "", "bad_source", "damage")], 40, counts)
    text = written(finished, tmp_path, rejected=[table])
    assert "1 of 2 persons were lost with all of their rows (0 known, of 1 of them" in text
    assert "nobody knows how many): &lt;p09&gt;." in text


def test_floor_is_first_and_ceiling_last(html):
    names = re.findall(r'<span class="name">(.*?)</span>', html)[:5]
    assert names == ["true image", "xunet", "lite", "blind", "source, unchanged"]


def test_size_stays_within_the_limit(html):
    assert len(html.encode()) < page.SIZE_LIMIT <= 20_000_000


def test_same_input_gives_the_same_bytes(finished, html, tmp_path):
    again = written(finished, tmp_path)
    assert again == html


def test_rows_shrink_until_the_page_fits(finished, tmp_path, monkeypatch):
    models = pictures_only(finished)
    larger = written(finished, tmp_path, models=models)
    monkeypatch.setattr(page, "SIZE_LIMIT", len(larger.encode()) - 1)
    smaller = written(finished, tmp_path, models=models)
    assert smaller.count('class="asked"><div') < larger.count('class="asked"><div')


def test_page_over_the_limit_is_refused(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "SIZE_LIMIT", 1000)
    with pytest.raises(ValueError, match=r"index\.html: expected at most 1000 bytes"):
        written(finished, tmp_path, models=pictures_only(finished), grid_rows=1)
    assert not list(tmp_path.iterdir())


def test_csv_has_a_row_per_model_and_kind(folder):
    assert b"\r" not in (folder / "comparison.csv").read_bytes()
    table = pd.read_csv(folder / "comparison.csv")
    assert len(table) == 5 * 3
    assert set(table["role"]) == {"floor", "method", "ceiling"}
    row = table[(table["model"] == "lite") & (table["kind"] == "gaze_only")].iloc[0]
    assert row["gaze_error_deg_low"] < row["gaze_error_deg"] < row["gaze_error_deg_high"]
    assert row["parameters"] == 1012345 and row["seconds_per_request"] == 0.0104
    assert row["seconds_per_source"] == 0.0042
    assert row["pairs"] == 30 and row["frechet_reason"] == "fewer than two pairs"


def test_least_report_is_a_page_too(finished, tmp_path):
    entry = next(entry for entry in finished.models if entry.name == "xunet")
    bare = type(entry)(name="xunet", metrics=entry.metrics)
    empty = {"estimators": (), "rejected": (), "contact_sheet": None, "config": None}
    text = written(finished, tmp_path, models=[bare], versions=None, **empty)
    assert "without floor and ceiling this number cannot be judged" in text
    assert "None of 40 rows was rejected" in text
    assert '<section id="pictures">' not in text


def test_faces_that_do_not_say_how_they_were_made_have_fewer_facts(finished, tmp_path):
    # Files of ST-ED's own preprocessing hold data sets alone.
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["p00/pixels"] = np.zeros((1, 8, 8, 3), np.uint8)
        file["p00/labels"] = np.zeros((1, 8), np.float32)
    bare = FacesReader(tmp_path / "bare.h5")
    named = [name for name, _ in sections.facts(finished.reader, finished.pairs, [])]
    assert named[-2:] == ["Normalisation", "Source"]
    assert [name for name, _ in sections.facts(bare, finished.pairs, [])] == named[:-2]


def test_methods_of_ones_own_cite_nothing(finished):
    results = read_results(finished.models)
    uses, _ = page._citations(results, ["test"])
    assert [name for name, _ in uses][:2] == ["xunet", "lite"]
    plain = [replace(one, model={}) for one in results if one.name == "lite"]
    uses, works = page._citations(plain, ["test"])
    assert [name for name, _ in uses] == ["Normalisation, estimators and error definitions"]
    assert [key for _, key, _ in works] == list(citations.ALWAYS)


def test_atlases_are_linked_to_where_there_are_any(finished, tmp_path, html):
    atlases = [tmp_path / "atlas" / f"{name}.html" for name in ("xunet", "a&b")]
    text = written(finished, tmp_path, models=pictures_only(finished), atlases=atlases)
    assert '<a href="atlas/xunet.html">xunet</a>, <a href="atlas/a%26b.html">a&amp;b</a>.' in text
    assert "follow the pointer" not in html
