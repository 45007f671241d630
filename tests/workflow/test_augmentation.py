"""The study of few labels through the real DAG, on what the tiny run has made."""

import json
import shutil

import h5py
import pandas as pd
import pytest
from running import planned, snakemake

from regaze.faces import FacesReader

EXPORT = "results/augmentation/faces/xunet_lite/n12-s0-Redirected_samples.h5"


@pytest.fixture(scope="module")
def studied(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "run"
    shutil.copytree(finished, folder)
    done = snakemake(folder, "--", "augmentation", EXPORT)
    assert done.returncode == 0, done.output[-6000:]
    return folder


@pytest.mark.whole
def test_table_figure_and_page(studied):
    root = studied / "results/augmentation"
    table = pd.read_csv(root / "table.csv")
    assert table[["labels", "data"]].values.tolist() == [
        [12, "real"], [12, "xunet_lite"], [16, "real"], [16, "xunet_lite"],
    ]  # fmt: skip
    assert table["gaze_deg"].between(table["gaze_low"], table["gaze_high"]).all()
    assert table.loc[table["data"] != "real", "gaze_verdict"].notna().all()
    assert "data:image/png;base64," in (root / "index.html").read_text()
    assert (root / "figure.png").stat().st_size > 5000
    assert "Nothing to be done" in snakemake(studied, "-n", "--", "augmentation").output


@pytest.mark.whole
def test_who_learnt_what(studied):
    root = studied / "results/augmentation"
    redirector = json.loads((root / "models/xunet_lite/n12-s0/model.json").read_text())
    labels = {"count": 12, "seed": 0, "estimator": "resnet", "targets": "labelled"}
    assert redirector["config"]["labels"] == labels and redirector["data"]["labeller"]
    # With all labels the redirector is the one of `models`.
    assert not (root / "models/xunet_lite/nall-s0").exists()
    seen = {}
    for maker in ("real", "xunet_lite"):
        record = json.loads((root / f"estimators/resnet/{maker}/n12-s0/model.json").read_text())
        assert record["config"]["labels"] == {"count": 12, "seed": 0}
        assert ("augmented" in record["data"]) == (maker != "real")
        seen[maker] = record["images_seen"]
    assert seen["real"] == seen["xunet_lite"]


@pytest.mark.whole
def test_labelled_samples_and_their_redirected_versions(studied):
    reader = FacesReader(studied / "results/augmentation/faces/xunet_lite/n12-s0.h5")
    assert len(reader) == 24 and reader.dataset("real", range(24)).sum() == 12
    split = json.loads((studied / "results/synthetic/split.json").read_text())
    assert set(reader.persons) <= set(split["train-redirector"])
    with h5py.File(studied / EXPORT, "r") as file:
        assert sum(len(file[person]["real"]) for person in file) == 24


def test_all_does_not_run_the_study(finished):
    jobs = planned(snakemake(finished, "-n", "-F"))
    assert not {"train_labelled_estimator", "augment_faces", "write_augmentation"} & set(jobs)


def test_redirectors_that_saw_all_labels_can_be_asked_for(finished):
    change = "augmentation={redirector_labels: all, counts: [12]}"
    jobs = planned(snakemake(finished, "-n", "--config", change, "--", "augmentation"))
    assert jobs["augment_faces"] == 1 and jobs["train_labelled_estimator"] == 2
    assert "train_labelled_redirector" not in jobs
