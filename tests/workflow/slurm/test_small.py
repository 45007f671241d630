"""profiles/slurm-ci on a real SLURM in small: shards, and a training that fails once, on a GPU.

Two workflows run beside each other: one makes the shards of photos that are there, in the other the
state of an estimator is blocked by a file until its first job has failed.
"""

import shutil
import time
from types import SimpleNamespace

import pytest
from cluster import Cluster, Started, missing, of_rule
from running import ROOT, snakemake

PROFILE = ROOT / "profiles/slurm-ci"
OVERLAYS = [ROOT / "tests/workflow/slurm/tiny.yaml"]
PHOTOS = ("--config", "capture={photo: 96, focal: 190.0}", "--")
SHARDS = [f"results/synthetic/faces/shard-00{number}.h5" for number in range(2)]
# As long as a job takes, or a question more is waited for.
ASKED = ("--slurm-init-seconds-before-status-checks", "12")
LONGEST_S = 240

absent = missing()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(absent), reason=f"NO SLURM HERE: missing {'; '.join(absent)}"),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What happened: folders, both workflows, and all jobs that SLURM knows of."""
    root = tmp_path_factory.mktemp("slurm")
    local, shards, trained = (root / name for name in ("local", "shards", "trained"))
    made = snakemake(local, *PHOTOS, "faces", "results/synthetic/split.json", overlays=OVERLAYS)
    assert made.returncode == 0, made.output[-3000:]
    shutil.copytree(local, shards)
    shutil.rmtree(shards / "results/synthetic/faces")
    blocked = shutil.copytree(local, trained) / "results/state/vgg"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("no folder")
    wanted = {shards: SHARDS, trained: ["results/models/vgg/model.safetensors"]}
    cluster, workflows = Cluster(root / "cluster"), []
    begun = time.monotonic()
    try:
        cluster.up()
        workflows += [
            Started(cluster, folder, PROFILE, *ASKED, *PHOTOS, *paths, overlays=OVERLAYS)
            for folder, paths in wanted.items()
        ]
        while any(workflow.process.poll() is None for workflow in workflows):
            jobs = cluster.jobs()
            if blocked.is_file() and any(
                job["state"] == "FAILED" for job in of_rule(jobs, trained, "train_estimator")
            ):
                blocked.unlink()
            if time.monotonic() - begun > LONGEST_S:
                pytest.fail(f"{[one.output[-3000:] for one in workflows]} {jobs}")
            time.sleep(0.3)
        jobs = cluster.jobs()
    finally:
        left = cluster.end(workflows)
    print(f"{time.monotonic() - begun:.0f} s on SLURM, {len(jobs)} jobs")
    return SimpleNamespace(root=root, workflows=workflows, jobs=jobs, left=left)


def test_shards_are_those_of_a_local_run_and_ask_for_what_they_use(ran):
    assert ran.workflows[0].process.returncode == 0, ran.workflows[0].output[-4000:]
    for name in SHARDS:
        assert (ran.root / "shards" / name).read_bytes() == (ran.root / "local" / name).read_bytes()
    shards = of_rule(ran.jobs, ran.root / "shards", "normalise_shard")
    assert [job["state"] for job in shards] == ["COMPLETED"] * 2
    asked = {(job["memory"], job["cpus"], job["limit"]) for job in shards}
    assert asked == {("1500M", "1", "1:00:00")}


def test_a_job_that_fails_once_is_retried_with_twice_the_memory_on_a_gpu_partition(ran):
    assert ran.workflows[1].process.returncode == 0, ran.workflows[1].output[-4000:]
    tries = of_rule(ran.jobs, ran.root / "trained", "train_estimator", "vgg")
    assert [job["state"] for job in tries] == ["FAILED", "COMPLETED"]
    assert [job["memory"] for job in tries] == ["3000M", "6000M"]
    assert {(job["partition"], job["gpus"]) for job in tries} == {("gpu", "gres:gpu:1")}


def test_nothing_is_left(ran):
    assert ran.left == []
    assert list(ran.root.glob("*/results/**/.*.part")) == []
