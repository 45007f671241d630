"""GazeNeRF's protocol has a table of its own, and is in no other."""

import json

from regaze.factors import LISTED
from regaze.report import tables
from regaze.report.inputs import ModelEntry, Results, read_metrics
from regaze.report.protocols import paper_table
from regaze.report.sections import comparison_table


def results_of(tmp_path, name, **section):
    known = {"gaze_and_head": {"gaze_error_deg": {"mean": 5.0, "n": 9}}}
    known |= {LISTED: section} if section else {}
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"kinds": known}))
    return Results(ModelEntry(name, path), read_metrics(path), None, None, {}, {}, None)


def test_a_table_of_its_own(tmp_path):
    numbers = {
        "paper_gaze_deg": {"mean": 3.25, "n": 11},
        "paper_lpips": {"mean": None, "reason": "no weights"},
        "paper_not_detected": {"mean": 8.3, "n": 12, "count": 1},
    }
    one, other = results_of(tmp_path, "one", **numbers), results_of(tmp_path, "other")
    table = paper_table([one, other])
    assert len(table["groups"]) == 1 and len(table["groups"][0]["rows"]) == 1
    text = json.dumps(table, default=str)
    assert "3.25" in text and "8.3" in text and "no weights" in text
    assert paper_table([other]) is None
    compared = json.dumps(comparison_table([one, other]), default=str)
    assert "paper" not in compared and "3.25" not in compared
    rows = tables.comparisons({"set": [one, other]})
    assert set(rows["kind"]) == {"gaze_and_head"}
    assert not [name for name in rows if name.startswith("paper")]
