"""Whose state a training goes on from, and whom a split must have, seen from the command line.

The kill harness, tests/faults/kills.py, kills all stages; here it is a training alone.
"""

import os
import shutil
import signal
import subprocess
import time

import h5py
import pytest
import yaml
from kills import differences
from running import ROOT, command, snakemake

MODEL = "results/models/regression/model.safetensors"
LOG = "logs/train_model/regression.log"
ESTIMATOR = "results/models/vgg/model.safetensors"
# It goes on for some time after its first state.
LONGER = ("--config", "estimators={vgg: {train: {images: 1600}}}", "--", ESTIMATOR)
REPOSITORY = ("Snakefile", "config.yaml", "configs", "profiles", "rules", "src")


@pytest.fixture
def again(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "again")


def test_a_forced_training_begins_anew_and_ends_in_the_same_bytes(again):
    before = (again / MODEL).read_bytes()
    done = snakemake(again, "--forcerun", "train_model", "--", MODEL)
    assert done.returncode == 0, done.output[-3000:]
    log = (again / LOG).read_text()
    assert "resuming" not in log and "step 5/20" in log
    assert (again / MODEL).read_bytes() == before


def test_a_workflow_that_is_killed_ends_in_the_bytes_of_an_undisturbed_one(again, tmp_path):
    done = snakemake(again, *LONGER)
    assert done.returncode == 0, done.output[-3000:]
    # What is made before the training is there.
    broken = shutil.copytree(again, tmp_path.resolve() / "broken")
    for kind in ("models", "state"):
        shutil.rmtree(broken / "results" / kind / "vgg")
    with open(tmp_path / "killed.log", "w") as log:
        running = subprocess.Popen(
            command(broken, *LONGER), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
    while not (broken / "results/state/vgg/state.pt").exists():
        assert running.poll() is None, (tmp_path / "killed.log").read_text()[-3000:]
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait(60) != 0 and not (broken / ESTIMATOR).exists()

    done = snakemake(broken, *LONGER)
    assert done.returncode == 0, done.output[-3000:]
    assert "resuming at step" in (broken / "logs/train_estimator/vgg.log").read_text()
    assert differences(broken, again) == []


@pytest.fixture
def released(finished, tmp_path):
    """One faces file of all persons, and a configuration that trains on it."""
    with h5py.File(tmp_path / "released.h5", "w") as file:
        for path in sorted((finished / "results/synthetic/faces").glob("shard-*.h5")):
            with h5py.File(path) as shard:
                file.attrs.update(shard.attrs)
                for person in shard:
                    shard.copy(person, file)

    def overlay(**options):
        root = str(tmp_path / "released.h5")
        entry = {"source": "faces_hdf5", "root": root, "split": {"val": 0.2, "test": 0.2}}
        path = tmp_path / "released.yaml"
        content = {"dataset": "mine", "datasets": {"mine": entry | options}}
        path.write_text(yaml.safe_dump(content))
        return path

    return overlay


@pytest.mark.whole
def test_other_pixels_with_the_same_labels_are_learnt_from_the_first_step(released, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, order in ((one, "rgb"), (one, "bgr"), (other, "bgr")):
        done = snakemake(folder, "--", MODEL, overlays=[released(channel_order=order)])
        assert done.returncode == 0, done.output[-3000:]
        log = (folder / LOG).read_text()
        assert "resuming" not in log and "step 5/20" in log
        if (folder, order) == (one, "rgb"):
            first = (one / MODEL).read_bytes()
    assert "(data.faces), starting afresh" in (one / LOG).read_text()
    assert first != (one / MODEL).read_bytes() == (other / MODEL).read_bytes()


# What a change of code runs again is in test_code_versions.py, which states it throws away in
# tests/unit/training/test_states.py.
@pytest.mark.whole
def test_a_changed_loss_is_learnt_from_the_first_step(again, tmp_path):
    copy = tmp_path / "repository"
    for name in (*REPOSITORY, "workflow_scripts", "envs"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    source = copy / "src/regaze/redirectors/xunet/objective.py"
    source.write_text(source.read_text().replace("    def loss(", "    # Changed.\n    def loss("))
    # The interpreter stays, which lies in the repository's own environment.
    python, *rest = command(again, "--", MODEL)
    line = [python, *(part.replace(str(ROOT), str(copy)) for part in rest)]
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    before = (again / MODEL).read_bytes()
    done = subprocess.run(line, capture_output=True, text=True, cwd=copy, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    log = (again / LOG).read_text()
    assert "(code), starting afresh" in log and "step 5/20" in log
    assert (again / MODEL).read_bytes() == before


def test_a_split_without_val_stops_before_any_job(released, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    done = snakemake(folder, overlays=[released(split={"test": 0.2})])
    assert done.returncode != 0
    assert "datasets.mine.split: val: expected somebody, found nobody" in done.output
    assert not (folder / "results").exists()


def test_what_the_data_set_itself_says_is_checked_when_its_split_is_made(finished, tmp_path):
    root, folder = tmp_path / "capture", tmp_path / "run"
    shutil.copytree(finished / "results/synthetic/capture", root)
    (root / "split.json").unlink()
    for path in root.glob("*/info.json"):
        path.write_text(path.read_text().replace('"val"', '"train"'))
    entry = {"source": "gazecapture", "root": str(root)}
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(yaml.safe_dump({"dataset": "mine", "datasets": {"mine": entry}}))
    done = snakemake(folder, "--", "results/mine/split.json", overlays=[overlay])
    assert done.returncode != 0
    log = (folder / "logs/write_split/mine.log").read_text()
    assert "split: val: expected somebody, found nobody; name a split file, or deal" in log
    assert not (folder / "results/mine/split.json").exists()
