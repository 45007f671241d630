"""Killed workflows go on to the same bytes: the kill harness in small.

`make faults` has the harness kill all stages; tests/workflow/test_states.py kills a training alone.
"""

import pytest
from kills import SMALL, kill_often

pytestmark = pytest.mark.faults


@pytest.mark.whole
def test_killed_workflows_end_in_the_bytes_of_an_undisturbed_one(small):
    # A target whose jobs all ended before a kill struck is tried again in another pass.
    outcome = kill_often(small, kills=5, per_pass=5, seed=3, minutes=4, goals=SMALL)
    assert outcome["errors"] == []
    assert outcome["kills"] > 2
