"""Marks, ties, aliases and formats of the comparison table."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from regaze.report import tables
from regaze.report.inputs import ModelEntry, Results
from regaze.report.sections import comparison_table
from regaze.report.statistics import paired_difference, person_interval
from regaze.report.verdict import removed, verdict

GAZE = tables.METRICS[0]


def results(name, mean, values=None, persons=8, slot=0, kind="gaze_only"):
    table = None
    if values is not None:
        table = pd.DataFrame(
            {
                "pair": np.arange(len(values)),
                "person": [f"p{n % persons}" for n in range(len(values))],
                "kind": kind,
                "gaze_error_deg": values,
            }
        )
    metrics = {kind: {"gaze_error_deg": {"mean": mean}, "psnr": {"mean": None, "reason": "why"}}}
    return Results(ModelEntry(name, "metrics.json"), metrics, table, None, {}, {}, None, slot)


def test_best_is_marked_and_ties_are_found():
    rng = np.random.default_rng(0)
    base = rng.uniform(3, 6, 80)
    near = base + np.where(np.arange(80) % 2, 0.53, -0.5)
    found = [
        results("a", base.mean(), base),
        results("b", near.mean(), near),
        results("c", base.mean() + 2, base + 2),
        results("truth", 1.0, base * 0 + 1),
    ]
    best, tied = tables.best_methods(found, "gaze_only", GAZE)
    assert (best, tied) == ({"a"}, {"b"})


def test_a_method_told_the_target_photos_code_is_called_an_upper_bound_and_never_best():
    told = {
        "config": {"deca": {"target_code": "target"}},
        "told": "angles; the target photo's own 3-D code",
    }
    bound = replace(results("oracle", 1.0), model=told)
    own = replace(
        results("own", 2.0), model={"config": {"deca": {"target_code": "source"}}, "told": "angles"}
    )
    found = [bound, own, results("plain", 3.0), results("truth", 0.5)]
    assert tables.best_methods(found, "gaze_only", GAZE)[0] == {"own"}
    table = tables.comparisons({"d": found}).set_index("model")
    assert table.loc["oracle", "title"] == tables.shown_title(bound) == "oracle (upper bound)"
    assert table.loc["own", "title"] == "own" and table.loc["own", "told"] == "angles"
    assert "own misses" in verdict(found).headline


def test_a_reconstruction_stands_in_the_tables_and_is_no_competitor():
    bare = replace(results("inverter", 1.0), model={"reconstructs": True, "told": "nothing"})
    found = [bare, results("a", 3.0), results("b", 2.0), results("truth", 0.5)]
    assert tables.best_methods(found, "gaze_only", GAZE)[0] == {"b"}
    said = verdict(found)
    assert "b misses" in said.headline and "inverter" not in " ".join(said.details)
    table = tables.comparisons({"d": found}).set_index("model")
    assert table.loc["inverter", "title"] == "inverter (reconstruction)"
    assert table.loc["inverter", "gaze_error_deg"] == 1.0
    assert verdict([bare]).headline == "No method was evaluated."


def test_a_method_that_learnt_from_a_judge_says_so():
    networks = {"person": {"entry": "identity"}, "likeness": {"entry": "lpips_vgg16"}}
    own = replace(results("own", 1.0), model={"told": "angles", "networks": networks})
    assert tables.told(own) == (
        "angles; learnt from the network that judges identity and measures LPIPS (VGG)"
    )


def test_how_a_method_learnt_and_sees_otherwise_is_told():
    own = replace(
        results("own", 1.0),
        model={"told": "angles", "data": {"unlabelled": {"rows": 9}}},
        samples=SimpleNamespace(attributes={"view_covers": 0.388}),
    )
    assert tables.told(own) == (
        "angles; learnt from a second data set without labels; sees 39% of the patch, the rest is "
        "the source's"
    )


def test_equal_print_is_equally_best():
    found = [results("a", 4.001), results("b", 4.0), results("c", 4.1)]
    assert tables.best_methods(found, "gaze_only", GAZE)[0] == {"a", "b"}


def test_a_single_method_is_not_the_best_of_one():
    assert tables.best_methods([results("a", 4.0)], "gaze_only", GAZE) == (set(), set())


def test_null_keeps_its_reason():
    assert tables.metric_of(results("a", 4.0), "gaze_only", "psnr")["reason"] == "why"
    assert (
        "no gaze_and_head pairs"
        in tables.metric_of(results("a", 4.0), "gaze_and_head", "psnr")["reason"]
    )


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("gaze_error_deg", 4.726, "4.73"),
        ("parameters", 1012345, "1.01 M"),
        ("parameters", 950, "950"),
        ("seconds_per_request", 0.0104, "10 ms"),
        ("seconds_per_request", 0.0039, "3.9 ms"),
        ("seconds_per_source", 0.2, "200 ms"),
        ("seconds_per_source", 3.14159, "3.14 s"),
        ("evaluations_per_image", 4.0, "4"),
        ("gaze_error_deg", None, "—"),
    ],
)
def test_numbers_are_printed_for_people(key, value, text):
    column = next(c for c in tables.METRICS + tables.COSTS if c.key == key)
    assert tables.text_of(value, column) == text


def test_unlisted_metrics_get_a_column_and_all_null_ones_a_line():
    one = results("a", 4.0)
    one.metrics["gaze_only"]["fid"] = {"mean": 12.0}
    assert [column.key for column in tables.extra_columns([one])] == ["fid"]
    assert tables.null_metrics([one]) == {"psnr": "why"}


def test_doubtful_values_carry_a_numbered_note():
    few = {"mean": 3.0, "warning": "a distance of few pictures is too large"}
    one, two = results("a", 4.0), results("b", 5.0)
    for entry in (one, two):
        entry.metrics["gaze_only"] |= {"frechet_estimator": few, "fid": {"mean": 9.0} | few}
    found = comparison_table([one, two], costs=False)
    assert found["notes"] == {"A distance of few pictures is too large": 1}
    titles = [head["title"] for head in found["columns"]]
    for row in found["groups"][0]["rows"]:
        cells = dict(zip(titles, row["cells"], strict=True))
        assert (cells["Fréchet"]["text"], cells["Fréchet"]["note"]) == ("3.00", 1)
        assert cells["fid"]["note"] == 1 and cells["Gaze error"]["note"] == ""


def test_paired_difference_is_by_common_pairs():
    first, second = results("a", 0, np.arange(16.0)), results("b", 0, np.arange(16.0) + 1)
    mean, low, high = paired_difference(
        first.per_pair.iloc[4:], second.per_pair, "gaze_error_deg", "gaze_only"
    )
    assert (mean, low, high) == pytest.approx((-1, -1, -1))
    assert np.isnan(paired_difference(first.per_pair, second.per_pair, "psnr", "gaze_only")[0])


def test_interval_of_one_person_is_undefined():
    mean, low, high = person_interval(np.array([1.0, 3.0, np.nan]), ["a", "a", "b"])
    assert mean == 2 and np.isnan(low) and np.isnan(high)


def test_share_of_removable_error():
    assert removed(3.7, 3.7, 16) == 1 and removed(16, 3.7, 16) == 0
    assert np.isnan(removed(5, 4, 4))


def test_verdict_admits_that_nothing_was_learned():
    text = verdict([results("copy", 16.0), results("a", 15.0), results("truth", 3.7)]).headline
    assert "has not been learned" in text
    assert verdict([]).headline == "No method was evaluated."


def test_verdict_claims_nothing_that_the_numbers_do_not_hold():
    nothing = verdict([results("a", None), results("copy", 16.0)])
    assert nothing.headline == "No gaze error could be measured for any method."
    level = verdict([results("copy", 3.0), results("a", 4.0), results("truth", 3.0)]).headline
    assert level.endswith("the unchanged source scores 3.0° and the true image 3.0°.")
    # Pairs of one person have no interval, so neither method is said to be ahead.
    one = [results(name, 1.0, np.arange(4.0) + n, persons=1) for n, name in enumerate("ab")]
    assert verdict(one).details == ()


def test_long_lists_are_cut():
    many = [results(f"m{n}", 15.0 + n / 100) for n in range(7)]
    said = verdict([results("copy", 16.0), results("truth", 4.0), results("best", 5.0), *many])
    assert "m0, m1, m2, m3 and 3 more have learned little or no gaze" in said.details[0]
