"""The table of induced errors, the judge of identity, and curves of trainings in phases."""

import json

from regaze.report import tables
from regaze.report.induced import identity_note, induced_table
from regaze.report.inputs import PERTURBED, ModelEntry, Results, read_curve, read_metrics


def results(name, induced, slot=0, **metrics):
    sections = {PERTURBED: induced, "gaze_and_head": metrics}
    return Results(ModelEntry(name, "metrics.json"), sections, None, None, {}, {}, None, slot)


def test_methods_and_columns_without_numbers_are_left_out():
    lacking = {"mean": None, "reason": "no factors."}
    first = results(
        "a",
        {
            "gaze_to_head_deg": {"mean": 1.234, "interval": [1.0, 1.5], "n": 9},
            "factor_gaze_to_head_deg": {"mean": 0.5, "n": 9},
            "others_to_gaze_deg": lacking,
        },
    )
    second = results(
        "b", {"gaze_to_head_deg": {"mean": 2.0, "n": 9}, "factor_gaze_to_head_deg": lacking}
    )
    none = results("copy", {"gaze_to_head_deg": lacking})
    table = induced_table([first, second, none])
    assert [head["title"] for head in table["columns"]] == ["Gaze → head", "Factor g → h"]
    rows = table["groups"][0]["rows"]
    assert [row["title"] for row in rows] == ["a", "b"] and "9 pictures" in str(table["groups"])
    assert rows[0]["cells"][0]["text"] == "1.23" and rows[0]["cells"][0]["interval"] == "1.00–1.50"
    assert rows[1]["cells"][1]["note"] == 1 and table["notes"] == {"no factors": 1}
    assert induced_table([none]) is None
    # What only the induced errors lack is told by their own table.
    assert tables.null_metrics([first, second, none]) == {}


def test_the_judge_of_identity_is_named():
    value = {"mean": 0.9, "network": "small", "auc": 0.9994, "eer": 0.0108}
    words = identity_note([results("a", {}, identity_similarity=value)])
    assert "network small" in words and "0.9994" in words and "1.1 %" in words
    assert identity_note([results("a", {})]) == ""
    untested = results("a", {}, identity_similarity={"mean": 0.9, "network": "small"})
    assert identity_note([untested]) == "Identity is judged by the network small"


def test_the_section_of_random_turns_is_read(tmp_path):
    entry = {"pairs": 4, "gaze_to_head_deg": {"mean": 1.0, "n": 4}}
    (tmp_path / "metrics.json").write_text(json.dumps({"kinds": {PERTURBED: entry}}))
    assert read_metrics(tmp_path / "metrics.json")[PERTURBED]["gaze_to_head_deg"]["mean"] == 1.0


def test_the_loss_of_a_training_in_phases_is_that_of_the_last(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("step,discriminator/loss,generator/loss,generator/l1\n5,0.1,400,0.6\n")
    assert read_curve(path)["loss"].tolist() == [400]
