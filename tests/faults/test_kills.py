"""The kill harness in small: stages from capture to a trained estimator. `make faults` does all."""

import pytest
from kills import SMALL, kill_often

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.whole)])
def test_killed_workflows_end_in_the_bytes_of_an_undisturbed_one(small, kills):
    # A target whose jobs all ended before a kill struck is tried again in another pass.
    outcome = kill_often(small, kills=kills, per_pass=kills, seed=3, minutes=4, goals=SMALL)
    assert outcome["errors"] == []
    assert outcome["kills"] > kills // 2
