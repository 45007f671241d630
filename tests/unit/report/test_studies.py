"""Steps and guidance: figures, rows and table of variants against the run's own sampling."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest

from regaze.metrics.bootstrap import bootstrap_mean
from regaze.report import page, studies
from regaze.report.across import DatasetEntry
from regaze.report.inputs import read_results
from regaze.report.settings import StudySettings, axis_of, weight_variants
from regaze.report.studies import StudyEntry

KIND = "gaze_and_head"
EXTRA = {"steps1": 1.0, "steps4": 0.0, "w0.0": 0.0, "w1.0": -0.5, "reference": -0.25}
CHANGES = {
    "steps1": {"steps": 1},
    "steps4": {"steps": 4},
    "w0.0": {"guidance": 0.0},
    "w1.0": {"guidance": 1.0},
    "reference": {"sampler": "ancestral", "steps": 256, "pairs": 6},
}
RUNS = {"steps1": 1, "steps4": 4, "w0.0": 4, "w1.0": 8, "reference": 256}


@pytest.fixture(scope="module")
def entries(finished, tmp_path_factory):
    """Variants of xunet, whose gaze error is the run's own plus a known number of degrees."""
    root = tmp_path_factory.mktemp("study")
    own = pd.read_parquet(finished.root / "evaluation/xunet/per_pair.parquet")
    made = []
    for name, extra in EXTRA.items():
        folder = root / name
        folder.mkdir()
        table = own[own["kind"] == KIND].head(6 if name == "reference" else 12).copy()
        table["gaze_error_deg"] += extra
        table.to_parquet(folder / "per_pair.parquet")
        with h5py.File(folder / "samples.h5", "w") as file:
            file["pixels"] = np.full((len(table), 16, 16, 3), 90, np.uint8)
            file["pair"] = table["pair"].to_numpy()
            sampler = CHANGES[name].get("sampler", "dpmpp_2m")
            file.attrs.update({"evaluations_per_image": RUNS[name], "sampler": sampler})
        (folder / "speed.json").write_text(
            '{"seconds_per_source": 0.02, "seconds_per_request": 0.01, "threads": 1}'
        )
        null = {"mean": None, "reason": "no face recognition weights"}
        content = {"kinds": {KIND: {"identity_similarity": null}}}
        (folder / "metrics.json").write_text(json.dumps(content))
        made.append(StudyEntry("xunet", name, CHANGES[name], folder))
    return made


@pytest.fixture(scope="module")
def results(finished):
    return read_results(finished.models)


def test_names_and_axes_of_variants():
    study = StudySettings(steps=[8, 1], weights=[1, 0.5], reference={"pairs": 7})
    found = study.variants()
    assert list(found) == ["steps1", "steps8", "w0.5", "w1.0", "reference"]
    assert found["reference"] == {"sampler": "ancestral", "steps": 256, "pairs": 7}
    assert axis_of("steps8", found["steps8"]) == ("steps", 8.0)
    assert axis_of("w0.5", found["w0.5"]) == ("weight", 0.5)
    assert axis_of("reference", found["reference"]) == ("reference", 256.0)
    assert weight_variants([0, 1]) == {"w0.0": {"guidance": 0.0}, "w1.0": {"guidance": 1.0}}
    for bad in ({"steps": [0]}, {"steps": [2, 2]}, {"weights": [-1]}, {"weights": [1, 1.0]}):
        with pytest.raises(ValueError, match="expected different"):
            StudySettings(**bad)


def test_table_holds_intervals_bounds_and_paired_differences(entries, results):
    variants = studies.load_variants(entries, KIND)
    table = studies.study_table(variants, results, KIND, "test")
    one = table.set_index("variant").loc["steps1"]
    expected = bootstrap_mean(
        variants[0].per_pair["gaze_error_deg"].to_numpy(float),
        variants[0].per_pair["person"].to_numpy(str),
    )
    assert one["gaze_error_deg"] == pytest.approx(expected.mean)
    assert one["gaze_error_deg_low"] == pytest.approx(expected.low)
    for name, extra in EXTRA.items():
        row = table[table["variant"] == name].iloc[0]
        for end in ("", "_low", "_high"):
            assert row[f"gaze_error_deg_minus_own{end}"] == pytest.approx(extra, abs=1e-5)
        assert row["evaluations_per_image"] == RUNS[name]
    # Floor and ceiling are of the pairs that the variants were sampled for.
    floor = table[table["axis"] == "floor"].iloc[0]
    truth = next(r for r in results if r.role == "floor").per_pair
    same = truth[truth["pair"].isin(variants[0].per_pair["pair"])]
    assert floor["gaze_error_deg"] == pytest.approx(same["gaze_error_deg"].mean())
    assert floor["pairs"] == 12
    assert studies.study_table([], results, KIND, "test").empty


def test_section_says_what_there_is(entries, results, finished):
    variants = studies.load_variants(entries, KIND)
    common = {"kind": KIND, "dataset": "test"}
    shown = studies.study_section(variants, results, finished.reader, finished.pairs, **common)
    assert [group["title"] for group in shown["groups"]] == ["Steps", "Guidance"]
    assert all(len(group["plots"]) == 2 for group in shown["groups"])
    strip = shown["groups"][0]["strips"][0]
    assert [title for title, _ in strip["models"]] == ["1 step", "4 steps"]
    assert len(strip["rows"]) == 2 and all(cell["uri"] for cell in strip["rows"][0]["made"])
    assert "solver steps: xunet: 1: " in shown["groups"][0]["plots"][0]
    assert shown["no_identity"] == "no face recognition weights"
    rows = {row["title"]: row for row in shown["tables"][0]["rows"]}
    assert rows["1 step"]["cells"][0]["difference"] == "+1.00 (+1.00 to +1.00)"
    assert rows["4 steps"]["cells"][0]["difference"] == "no difference"
    (sentence,) = shown["sentences"]
    # The run's own sampling is a quarter of a degree above the reference, at 4 runs against 256.
    assert "ancestral, 256 steps by +0.25°" in sentence and "64 times fewer" in sentence
    assert sentence.endswith("on the same 6 pairs: worse.")
    none = studies.study_section([], results, finished.reader, finished.pairs, **common)
    assert none is None


def test_what_cannot_be_compared_is_not_claimed(entries, results, finished):
    variants = studies.load_variants(entries, KIND)
    common = {"kind": KIND, "dataset": "test"}

    def shown(variants, results):
        return studies.study_section(variants, results, finished.reader, finished.pairs, **common)

    # The run's own results are not there: nothing to differ from.
    alone = shown(
        [variants[0], variants[-1]], [replace(r, per_pair=None, samples=None) for r in results]
    )
    cells = [row["cells"] for row in alone["tables"][0]["rows"]]
    assert {cell["difference"] for row in cells for cell in row} == {"—"}
    assert alone["tables"][0]["own"] == "this run's own sampling" and alone["sentences"] == []
    # Its pictures are not there: how many network runs it took is not known.
    (sentence,) = shown(variants[-1:], [replace(r, samples=None) for r in results])["sentences"]
    assert "times fewer network runs" not in sentence and "by +0.25°" in sentence


def test_pairs_of_one_variant_only_have_no_strip_and_no_bounds(entries, results, finished):
    one, four = studies.load_variants(entries[:2], KIND)
    one = replace(one, per_pair=one.per_pair.iloc[:6])
    four = replace(four, per_pair=four.per_pair.iloc[6:])
    others = [
        r if r.role == "method" else replace(r, per_pair=r.per_pair.iloc[:0]) for r in results
    ]
    table = studies.study_table([one, four], others, KIND, "test")
    assert table["axis"].tolist() == ["steps", "steps"]
    (group,) = studies.study_section(
        [one, four], others, finished.reader, finished.pairs, kind=KIND, dataset="test"
    )["groups"]
    assert group["strips"] == [] and len(group["plots"]) == 2
    assert not any("true image" in plot or ">source<" in plot for plot in group["plots"])


def test_identity_is_drawn_where_it_was_measured(entries, results, tmp_path):
    variants = studies.load_variants(entries, KIND)
    for variant in variants:
        variant.per_pair["identity_similarity"] = 0.5
    assert studies.identity_column(variants) == ("identity_similarity", "")
    table = studies.study_table(variants, results, KIND, "test")
    assert (table.loc[table["variant"] != "", "identity_similarity"] == 0.5).all()
    assert table.loc[table["variant"] == "", "identity_similarity"].isna().all()


def test_page_and_csv(finished, entries, tmp_path):
    everything = entries + [
        StudyEntry("xunet", "w1.0", CHANGES["w1.0"], entries[3].folder, all_pairs=True)
    ]
    out = tmp_path / "index.html"
    models = [m for m in finished.models if m.name != "blind"]
    page.write_report(
        out,
        tmp_path / "comparison.csv",
        [DatasetEntry("test", models, finished.reader, finished.pairs)],
        study=everything,
        out_study=tmp_path / "study.csv",
    )
    text = out.read_text(encoding="utf-8")
    assert 'href="#sampling"' in text and "weight 1, all pairs" in text
    table = pd.read_csv(tmp_path / "study.csv")
    assert list(table["variant"].dropna()) == [*EXTRA, "w1.0"]
    assert set(table["scope"]) == {"study", "all"}


def test_a_variant_without_pairs_of_the_kind_is_refused(entries):
    with pytest.raises(ValueError, match="expected head_only pairs, found none"):
        studies.load_variants(entries, "head_only")
    absent = StudyEntry("xunet", "steps2", {"steps": 2}, "nowhere")
    with pytest.raises(FileNotFoundError, match="per_pair.parquet"):
        studies.load_variants([absent], KIND)


@pytest.mark.parametrize(("unit", "from_zero"), [("°", True), (" dB", False)])
def test_errors_are_drawn_from_zero_and_other_scores_where_they_are(unit, from_zero):
    line = {"title": "net", "slot": 0, "x": [1, 2], "mean": [30.0, 31.0]}
    line |= {"low": np.array([29.0, 30.0]), "high": np.array([31.0, 32.0])}
    figure = studies.line_panel(
        [line], title="score", xlabel="steps", unit=unit, doubling=True, bounds={}
    )
    (axes,) = figure.axes
    assert (axes.get_ylim()[0] == 0) == from_zero
    assert axes.yaxis.get_major_formatter()(30.0, 0) == f"30{unit}"
