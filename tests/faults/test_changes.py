"""Changes after which a single job ends, in small; `make faults` goes through all stages."""

import random

import pytest
from changes import OVERLAY, Place, Round

pytestmark = [pytest.mark.faults, pytest.mark.whole]


def test_a_job_that_ends_after_a_change_leaves_nothing_old(tmp_path):
    overlays = [OVERLAY, OVERLAY.with_name("few-stages.yaml")]
    place = Place(tmp_path / "place", overlays, code=["estimators/objective.py"])
    place.turn(["code"])
    assert place.finish("changed")[0] == 0
    rounds = [
        # Killed after a change of the code, which stays: back to what was run from nothing.
        ("kept", [], "train_estimator", "job"),
        # An option is set, a job fails, and the option is taken back.
        ("undone", ["configuration"], "train_estimator", "fail"),
    ]
    for number, (way, changed, script, kind) in enumerate(rounds):
        assert Round(place, number, random.Random(0)).go(way, changed, script, kind, 0.4) == []
