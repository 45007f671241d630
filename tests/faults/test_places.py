"""Folders that are full, read-only, in use, or dated from the future."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
from kills import SMALL, Workflow, differences, jobs_in

pytestmark = [pytest.mark.faults, pytest.mark.whole]
MODEL = "results/models/vgg"


@contextmanager
def mounted(folder, *options):
    """A mount over ``folder``; without the right to mount, the test says so and is skipped."""
    line = ["mount", *options, str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED, needs the right to mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def untrained(made):
    """The folder without its estimator."""
    shutil.rmtree(made / MODEL)
    shutil.rmtree(made / "results/state")
    return made


def test_a_full_disk_is_told_and_leaves_nothing_behind(small, untrained, again):
    (untrained / MODEL).mkdir()
    with mounted(untrained / MODEL, "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        failed = again(untrained)
        assert failed.returncode != 0
        log = (untrained / "logs/train_estimator/vgg.log").read_text()
        assert f"No space left on device: '{MODEL}/model.safetensors'" in log
        assert list((untrained / MODEL).iterdir()) == []
    assert again(untrained).returncode == 0
    assert differences(untrained, small / "undisturbed") == []


def test_a_full_disk_below_the_state_keeps_the_state_before(small, untrained, again):
    state = untrained / "results/state/vgg"
    state.mkdir(parents=True)
    with mounted(state, "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        failed = again(untrained)
        assert failed.returncode != 0
        log = (untrained / "logs/train_estimator/vgg.log").read_text()
        told = "results/state/vgg/state.pt: the state cannot be written, 0 MiB are free there"
        assert told in log
        assert not list(state.glob("*.pt*"))
    assert again(untrained).returncode == 0
    assert differences(untrained, small / "undisturbed") == []


def test_read_only_results_are_told(small, untrained, again):
    results = untrained / "results"
    with mounted(results, "--bind", str(results)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(results)], check=True)
        failed = again(untrained)
        assert failed.returncode != 0
        assert "Read-only file system" in failed.output
    assert again(untrained).returncode == 0
    assert differences(untrained, small / "undisturbed") == []


def test_a_second_workflow_is_refused_and_the_first_not_disturbed(small, untrained, again):
    first = Workflow(untrained, untrained / "first.log", SMALL)
    while not jobs_in(untrained) and first.process.poll() is None:
        time.sleep(0.1)
    second = again(untrained)
    assert first.process.poll() is None, "the first ended too early to tell"
    assert second.returncode != 0
    assert f"process {first.process.pid} on " in second.output
    assert "runs a workflow in this folder; wait until it has ended, or stop it" in second.output
    assert first.process.wait(timeout=200) == 0
    assert differences(untrained, small / "undisturbed") == []


def test_jobs_of_a_killed_workflow_end_before_the_next_begins(small, untrained, again):
    first = Workflow(untrained, untrained / "first.log", SMALL)
    while not jobs_in(untrained) and first.process.poll() is None:
        time.sleep(0.05)
    (orphan,) = jobs_in(untrained)
    os.kill(orphan, signal.SIGSTOP)
    first.process.kill()
    first.process.wait()
    # It has not begun, so it holds no lock: whenever it goes on, it must see that it is alone.
    os.kill(orphan, signal.SIGCONT)
    assert again(untrained).returncode == 0
    assert differences(untrained, small / "undisturbed") == []


@pytest.mark.parametrize("damage", ["cut off", "of another configuration"])
def test_a_useless_state_is_passed_over(small, untrained, again, damage):
    import torch

    state = untrained / "results/state/vgg/state.pt"
    state.parent.mkdir(parents=True)
    torch.save({"config": "0" * 16, "step": 3}, state)
    if damage == "cut off":
        state.write_bytes(state.read_bytes()[:100])
    assert again(untrained).returncode == 0
    log = (untrained / "logs/train_estimator/vgg.log").read_text()
    told = {
        "cut off": "unreadable state, starting afresh",
        "of another configuration": "state of another configuration",
    }
    assert f"results/state/vgg/state.pt: {told[damage]}" in log
    assert differences(untrained, small / "undisturbed") == []


def test_files_from_the_future_are_told_before_any_work(small, untrained, again):
    ahead = time.time() + 86400
    late = "results/synthetic/split.json"
    os.utime(untrained / late, (ahead, ahead))
    assert again(untrained).returncode != 0
    log = (untrained / "logs/train_estimator/vgg.log").read_text()
    assert f"{late}: dated in the future, was a clock set back?" in log
    assert not (untrained / "results/state/vgg").exists()
    touched = again(untrained, "--touch", "--forceall", "--cores", "1", *SMALL[1:])
    assert touched.returncode == 0
    assert again(untrained).returncode == 0
    assert differences(untrained, small / "undisturbed") == []
