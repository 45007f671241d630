"""The real DAG in miniature: it runs, knows when nothing is to do, and re-runs what it must."""

import contextlib
import re
import shutil
import subprocess
import time

import h5py
import numpy as np
import pandas as pd
import psutil
import pytest
from running import ROOT, command, planned, snakemake

SAMPLED = {"sample_model", "perturb_model", "measure_model", "write_report", "all"}
STUDIED = {"sample_study", "measure_study"}


def test_everything_is_made(finished):
    page = (finished / "results/report/index.html").read_text()
    assert "xunet_lite" in page and "<img" in page
    # Links may lead out; nothing may be loaded from there.
    assert not re.search(r"""src(set)?=["']?http|url\(["']?http|<link|<script""", page)
    table = pd.read_csv(finished / "results/report/comparison.csv")
    assert set(table["model"]) == {
        *("copy", "truth", "xunet", "xunet_deca", "xunet_lite", "xunet_student", "regression"),
        *("sted", "redirtrans", "gazenerf", "redirtrans_gan", "inverter", "diffusionrig_gaze"),
        *("gcgan", "gcgan_moved"),
    }
    assert list((finished / "results").rglob(".*.part")) == []
    assert 'id="sampling"' in page
    study = pd.read_csv(finished / "results/report/study.csv")
    assert list(study["variant"].dropna()) == ["steps1", "steps2", "w0.0", "w1.0"]
    assert set(study["pairs"]) == {4} and set(study["evaluations_per_image"].dropna()) == {1, 2}
    assert study["gaze_error_deg"].notna().all()


def test_truth_is_the_truth_and_copy_the_source(finished):
    evaluation = finished / "results/evaluation"
    per_pair = pd.read_parquet(evaluation / "truth/synthetic/per_pair.parquet")
    compared = per_pair[per_pair["kind"] != "sweep"]
    # Samples are stored in whole grey levels, the truth they are compared with is not.
    assert compared["psnr"].min() > 50
    copied = pd.read_parquet(evaluation / "copy/synthetic/per_pair.parquet")
    assert copied.loc[copied["kind"] == "gaze_and_head", "psnr"].max() < 40


def test_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in snakemake(finished, "-n").output


def test_files_that_are_not_there_are_named_although_older_results_exist(finished):
    done = snakemake(finished, "-n", overlays=[ROOT / "configs/gazecapture.yaml"])
    assert done.returncode != 0
    assert "datasets.gazecapture.root: data/GazeCapture: no such" in done.output
    entry = "encoders={deca: {preset: reference, checkpoint: data/deca_model.tar}}"
    done = snakemake(finished, "-n", "--config", entry)
    assert done.returncode != 0 and "encoders.deca: data/deca_model.tar: no such" in done.output


def test_steps_of_one_model_sample_that_model_alone_again(finished):
    change = "models={xunet_lite: {sampling: {steps: 3}}}"
    jobs = planned(snakemake(finished, "-n", "--config", change))
    once = ("sample_model", "perturb_model", "measure_model", "write_report", "all")
    assert jobs == dict.fromkeys(once, 1)


def test_the_seed_of_all_samples_reruns_sampling_and_what_follows(finished):
    jobs = planned(snakemake(finished, "-n", "--config", "sampling={seed: 3}"))
    assert set(jobs) == SAMPLED | STUDIED | {"measure_inverted"}
    # Pseudo-models are not sampled.
    made = {entry.name for entry in (finished / "results/evaluation").iterdir()}
    assert jobs["sample_model"] == len(made - {"copy", "truth"})


def test_variants_rerun_neither_training_nor_the_main_samples(finished):
    change = "evaluation={study: {steps: [1, 3], pairs: 3}}"
    jobs = planned(snakemake(finished, "-n", "--config", change))
    assert jobs == {"sample_study": 1, "measure_study": 1, "write_report": 1, "all": 1}
    # All weights of a model are one job; the regression has none.
    jobs = planned(snakemake(finished, "-n", "--config", "sampling={max_w: 2, save_gif: true}"))
    sampled = {"sample_weights": 3, "measure_weights": 3, "draw_path": 4}
    assert jobs == sampled | {"write_report": 1, "all": 1}
    only = "sampling={max_w: 2, sample_only: true}"
    assert planned(snakemake(finished, "-n", "--config", only)) == {"sample_weights": 3, "all": 1}


@pytest.mark.whole
def test_background_is_removed_from_sources_and_targets(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    change = "evaluation={remove_background: [synthetic]}"
    jobs = planned(snakemake(again, "-n", "--config", change))
    rows = len(list((again / "results/evaluation").iterdir()))
    # Masks are there: gazenerf learnt by them.
    assert not {"mask_shard", "train_model"} & set(jobs)
    assert jobs["sample_model"] == jobs["measure_model"] == rows
    evaluation = "results/evaluation/truth/synthetic"
    done = snakemake(again, "--config", change, "--", f"{evaluation}/metrics.json")
    assert done.returncode == 0, done.output[-3000:]
    per_pair = pd.read_parquet(again / evaluation / "per_pair.parquet")
    assert per_pair["psnr"].min() > 50
    with (
        h5py.File(finished / evaluation / "samples.h5") as stored,
        h5py.File(again / evaluation / "samples.h5") as bare,
    ):
        before, after = stored["pixels"][:], bare["pixels"][:]
    # Every sample stands for a square of the target's patch, which is in the head mask or not.
    head = target_heads(again, after.shape[1])
    assert (after[~head.any((2, 4))] == 0).all()
    inside = head.all((2, 4))
    np.testing.assert_array_equal(after[inside], before[inside])
    # The masks have both, and there was something to remove.
    assert inside.any() and before[~head.any((2, 4))].any()


def target_heads(folder, size):
    """Head masks of the pairs' targets (P, size, s, size, s), cut into squares of s x s."""
    masks = {}
    for path in sorted((folder / "results/synthetic/masks").glob("shard-*.h5")):
        with h5py.File(path) as file:
            assert all(file[person]["valid"][:].all() for person in file)
            masks |= {person: file[person]["head"][:] for person in file}
    pairs = pd.read_parquet(folder / "results/synthetic/pairs.parquet")
    # A sweep has no true target; its source stands there.
    index = pairs["target_index"].where(pairs["target_index"] >= 0, pairs["source_index"])
    rows = zip(pairs["person"], index, strict=True)
    found = np.stack([masks[person][row] for person, row in rows])
    side = found.shape[1] // size
    return found.reshape(len(found), size, side, size, side)


def test_one_models_rate_reruns_that_model(finished):
    # xunet_lite is also what the student learns from.
    for name, count in (("regression", 1), ("xunet_lite", 2)):
        change = f"models={{{name}: {{train: {{lr: 0.002}}}}}}"
        jobs = planned(snakemake(finished, "-n", "--config", change))
        assert set(jobs) == SAMPLED | {"train_model"}
        assert jobs["train_model"] == jobs["sample_model"] == jobs["measure_model"] == count


def test_what_is_told_of_the_target_reruns_that_model_and_its_encoder_stays(finished):
    change = "models={xunet_deca: {deca: {target_code: target}}}"
    jobs = planned(snakemake(finished, "-n", "--config", change))
    assert set(jobs) == SAMPLED | STUDIED | {"train_model"} and jobs["train_model"] == 1
    change = "encoders={deca: {train: {lr: 0.002}}}"
    jobs = planned(snakemake(finished, "-n", "--config", change))
    made = {"train_deca", "encode_shard", "train_model"}
    # Expression and light are evaluated as it reads them, so that pairs are fixed by it, too.
    assert set(jobs) == SAMPLED | STUDIED | made | {"fix_pairs", "measure_inverted"}
    assert jobs["train_model"] == 3


def test_number_of_shards_changes_no_pixel_and_no_label(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    done = snakemake(again, "--config", "shards=3", "--", "faces")
    assert done.returncode == 0, done.output[-3000:]
    for name in ("pixels", "labels", "rotation", "file_name"):
        before, after = (persons_of(folder, name) for folder in (finished, again))
        assert before.keys() == after.keys()
        for person, values in before.items():
            np.testing.assert_array_equal(values, after[person])
    rejected = "results/synthetic/faces/rejected.parquet"
    assert (finished / rejected).read_bytes() == (again / rejected).read_bytes()


def persons_of(folder, name):
    found = {}
    for path in sorted((folder / "results/synthetic/faces").glob("shard-*.h5")):
        with h5py.File(path, "r") as file:
            found |= {person: file[person][name][:] for person in file}
    return found


def training_job(parent):
    """The process of the training script below a running workflow, None before it starts."""
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "train_model.py" in " ".join(child.cmdline()):
                return child
    return None


@pytest.mark.whole
def test_killed_training_ends_in_the_same_weights(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    weights = again / "results/models/xunet_lite/model.safetensors"
    state = again / "results/state/xunet_lite"
    longer = "models={xunet_lite: {train: {images: 400, state_every_images: 40}}}"
    arguments = ("--config", longer, "--", "results/models/xunet_lite/model.safetensors")
    done = snakemake(again, *arguments)
    assert done.returncode == 0, done.output[-3000:]
    whole = weights.read_bytes()
    shutil.rmtree(state)
    weights.unlink()

    running = subprocess.Popen(
        command(again, *arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # Once a state is written the job is in the middle of its training.
    job = None
    while not (job and (state / "state.pt").exists()):
        assert running.poll() is None, "training ended before it could be killed"
        job = training_job(running.pid)
        time.sleep(0.05)
    job.kill()
    assert running.wait(60) != 0
    assert not weights.exists()

    done = snakemake(again, *arguments)
    assert done.returncode == 0, done.output[-3000:]
    assert "resuming at step" in (again / "logs/train_model/xunet_lite.log").read_text()
    assert weights.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sampling={stepps: 3}", "sampling.stepps: unknown key"),
        ("shards=none", "shards: "),
        ("models={xunet: {class: unet}}", "models.xunet.class: unknown class 'unet'"),
    ],
)
def test_wrong_configuration_stops_before_any_job(tmp_path, change, message):
    done = snakemake(tmp_path, "--config", change)
    assert done.returncode != 0
    assert message in done.output
    assert not (tmp_path / "results").exists()


def test_person_in_two_splits_stops_before_any_job(tmp_path):
    split = tmp_path / "split.json"
    split.write_text('{"train": ["00001", "00002"], "val": ["00002"], "test": ["00003"]}')
    change = f"datasets={{mine: {{source: gazecapture, root: {tmp_path}, split: {split}}}}}"
    done = snakemake(tmp_path, "--config", change)
    assert done.returncode != 0
    assert "00002" in done.output and "train" in done.output and "val" in done.output
    assert not (tmp_path / "results").exists()


def test_all_rules_log_and_lint(tmp_path):
    done = snakemake(tmp_path, "--lint")
    assert done.returncode == 0, done.output[-3000:]
