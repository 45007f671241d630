"""Killed workflows go on to the same bytes: a training alone, and the kill harness in small.

`make faults` has the harness kill all stages.
"""

import shutil
import time

import pytest
from kills import MICRO, SMALL, Workflow, differences, kill_often
from running import snakemake

pytestmark = pytest.mark.faults
WEIGHTS = "results/models/vgg/model.safetensors"
LONGER = "estimators={vgg: {train: {images: 320}}}"
ALONE = ("--config", "shards=1", LONGER, "--", WEIGHTS)
"""As few jobs as end in a training, which goes on for some time after its first state."""


def test_a_workflow_whose_training_is_killed_ends_in_the_bytes_of_an_undisturbed_one(tmp_path):
    folder = tmp_path.resolve()
    whole, again = folder / "undisturbed", folder / "again"
    done = snakemake(whole, *ALONE, overlays=[MICRO])
    assert done.returncode == 0, done.output[-3000:]
    # What is made before the training is there.
    shutil.copytree(whole, again)
    for made in ("models", "state"):
        shutil.rmtree(again / "results" / made)
    running = Workflow(again, folder / "killed.log", ALONE)
    while not (again / "results/state/vgg/state.pt").exists():
        assert running.process.poll() is None, (folder / "killed.log").read_text()[-3000:]
        time.sleep(0.01)
    running.kill("group", None)
    assert running.process.wait(60) != 0 and not (again / WEIGHTS).exists()

    last = Workflow(again, folder / "again.log", ALONE)
    assert last.process.wait(300) == 0, (folder / "again.log").read_text()[-3000:]
    assert "resuming at step" in (again / "logs/train_estimator/vgg.log").read_text()
    assert differences(again, whole) == []


@pytest.mark.whole
def test_killed_workflows_end_in_the_bytes_of_an_undisturbed_one(small):
    # A target whose jobs all ended before a kill struck is tried again in another pass.
    outcome = kill_often(small, kills=5, per_pass=5, seed=3, minutes=4, goals=SMALL)
    assert outcome["errors"] == []
    assert outcome["kills"] > 2
