"""Data sets in other people's layouts through the real DAG, one of them evaluated on.

That every layout gives right labels is tested where it takes no workflow: test_truth_*.py.
"""

import re
import shutil

import pandas as pd
import pytest
import yaml
from captures import columbia, eth_xgaze, gazecapture, mpiifacegaze
from running import ROOT, planned, snakemake

from regaze.faces import FacesReader
from regaze.normalise.rejections import read_rejected
from regaze.sources import KINDS, options_class

FACES = ("released", "columbia")
EVALUATED = "mpiifacegaze"
EVERYBODY = {"val": 0.0, "test": 1.0}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Small captures in five layouts, and the entries of ``datasets`` for them."""
    root = tmp_path_factory.mktemp("raw data")
    mpiifacegaze.mpiifacegaze(root / "mpii")
    eth_xgaze.eth_xgaze(root / "xgaze")
    eth_xgaze.eth_xgaze_hdf5(root / "xgaze 224px")
    columbia.columbia(root / "columbia", landmarks=root / "landmarks.csv")
    gazecapture.gazecapture(root / "phones")
    return {
        "mpiifacegaze": {"source": "mpiifacegaze", "root": str(root / "mpii")},
        "ethxgaze": {"source": "eth_xgaze", "root": str(root / "xgaze")},
        "released": {"source": "eth_xgaze_hdf5", "root": str(root / "xgaze 224px")},
        "columbia": {
            "source": "columbia",
            "root": str(root / "columbia"),
            "landmarks": str(root / "landmarks.csv"),
        },
        "phones": {"source": "gazecapture", "root": str(root / "phones")},
    }


def test_files_that_the_workflow_makes_are_not_named_as_those_that_a_data_set_brings():
    script = (ROOT / "workflow_scripts/normalise_shard.py").read_text()
    made = set(re.findall(r'job.input.get\("(\w+)"\)', script))
    brought = {name for kind in KINDS for name in options_class(kind).model_fields}
    assert made == {"poses", "found"} and not made & brought


def overlay(folder, entries, **evaluation):
    """Write a configuration file that adds data sets to evaluate on."""
    split = {name: {"split": EVERYBODY, **entry} for name, entry in entries.items()}
    content = {"datasets": split, "evaluation": evaluation}
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.whole
def test_faces_of_links_and_landmarks_and_scores_on_foreign_photos(finished, datasets, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    file = overlay(
        tmp_path,
        datasets,
        datasets=[EVALUATED],
        models=["copy", "regression"],
        same_deg=3.0,
    )
    wanted = [f"results/{name}/faces/contact-sheet.png" for name in FACES]
    wanted = ("--", "all", *wanted)
    done = snakemake(folder, *wanted, overlays=[file])
    assert done.returncode == 0, done.output[-5000:]
    for name in (*FACES, EVALUATED):
        shards = sorted((folder / f"results/{name}/faces").glob("shard-*.h5"))
        reader = FacesReader(shards)
        _, counts = read_rejected(folder / f"results/{name}/faces/rejected.parquet")
        assert len(reader) == counts.rows_out == counts.rows_in > 0, name
        assert reader.gaze_known
    table = pd.read_csv(folder / "results/report/comparison.csv")
    assert set(table["dataset"]) == {"synthetic", EVALUATED}
    assert set(table["model"]) == {"copy", "regression"}
    assert "Nothing to be done" in snakemake(folder, "-n", *wanted, overlays=[file]).output


@pytest.mark.parametrize(
    "name",
    [
        "gazecapture",
        # The last one needs the files of all.
        *(
            pytest.param(name, marks=pytest.mark.whole)
            for name in ("mpiifacegaze", "eth-xgaze", "columbia")
        ),
        "cross-dataset",
    ],
)
def test_plans_of_the_licensed_sets(name, datasets, tmp_path):
    """Their configuration files plan the whole workflow, on one set and across all of them."""
    roots = {
        "gazecapture": datasets["phones"],
        "mpiifacegaze": datasets["mpiifacegaze"],
        "eth-xgaze": datasets["ethxgaze"],
        "columbia": datasets["columbia"],
    }
    names = [*roots] if name == "cross-dataset" else [name]
    ours = {key: {k: v for k, v in roots[key].items() if k != "source"} for key in names}
    # The second stage of the tiny workflow moves to a data set of its own.
    gone = dict.fromkeys(("gcgan", "gcgan_moved"))
    here = {"datasets": ours, "shards": 2, "models": gone}
    (tmp_path / "roots.yaml").write_text(yaml.safe_dump(here))
    files = [ROOT / f"configs/{key}.yaml" for key in dict.fromkeys([*reversed(names), name])]
    jobs = planned(snakemake(tmp_path, "-n", overlays=[*files, tmp_path / "roots.yaml"]))
    assert jobs["normalise_shard"] == 2 * len(names) and jobs["gather_faces"] == len(names)
    assert jobs["train_model"] == 8 and "render_capture" not in jobs
    assert jobs["measure_model"] == 10 * len(names)


@pytest.mark.parametrize(
    ("name", "found", "poses"), [("mpiifacegaze", 2, 0), ("columbia", 0, 2), ("ethxgaze", 0, 0)]
)
def test_landmarks_that_frame_faces_are_looked_for_where_nothing_tells_them(
    name, found, poses, datasets, tmp_path
):
    (tmp_path / "aligned.yaml").write_text(
        "views: {aligned: {framing: ffhq}}\n"
        "models: {regression: {data: {view: aligned}, objective: {eye_weight: 0}}}\n"
    )
    file = overlay(tmp_path, {name: datasets[name]}, datasets=[name], models=["regression"])
    target = f"results/{name}@aligned/faces/rejected.parquet"
    done = snakemake(tmp_path, "-n", "--", target, overlays=[file, tmp_path / "aligned.yaml"])
    jobs = planned(done)
    assert jobs["normalise_shard"] == 2 and jobs.get("detect_landmarks", 0) == found
    assert jobs.get("estimate_poses", 0) == poses


def test_photos_without_landmarks_say_what_their_detector_misses(datasets, tmp_path):
    entry = {"source": "columbia", "root": datasets["columbia"]["root"]}
    file = overlay(tmp_path, {"bare": entry}, datasets=["bare"])
    jobs = planned(snakemake(tmp_path, "-n", overlays=[file]))
    assert jobs["detect_landmarks"] == 2 and "fetch_asset" not in jobs
    other = "landmarks={detector: face_alignment}"
    done = snakemake(tmp_path, "-n", "--config", other, overlays=[file])
    assert done.returncode != 0
    assert "2DFAN4-11f355bf06.pth.tar" in done.output and "landmarks.fetch: true" in done.output
    other = "landmarks={detector: face_alignment, fetch: true}"
    fetching = snakemake(tmp_path, "-n", "--config", other, overlays=[file])
    jobs = planned(fetching)
    assert jobs["fetch_asset"] == 1 and jobs["detect_landmarks"] == jobs["estimate_poses"] == 2
