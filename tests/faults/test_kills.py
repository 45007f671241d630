"""The kill harness in small: stages from capture to a trained estimator. `make faults` does all."""

import pytest
from kills import SMALL, kill_often

pytestmark = pytest.mark.faults
ALONE = ("--config", "shards=1", "--", "results/models/vgg/model.safetensors")
"""As few jobs as end in a training."""


def test_a_workflow_whose_training_is_killed_ends_in_the_bytes_of_an_undisturbed_one(tmp_path):
    outcome = kill_often(tmp_path, kills=1, per_pass=1, seed=9, minutes=4, goals=ALONE)
    assert outcome["errors"] == [] and outcome["kills"] == 1
    assert '"stage": "train_estimator", "kind": "group"' in (tmp_path / "kills.jsonl").read_text()


@pytest.mark.whole
def test_killed_workflows_end_in_the_bytes_of_an_undisturbed_one(small):
    # A target whose jobs all ended before a kill struck is tried again in another pass.
    outcome = kill_often(small, kills=5, per_pass=5, seed=3, minutes=4, goals=SMALL)
    assert outcome["errors"] == []
    assert outcome["kills"] > 2
