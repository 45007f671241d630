"""profiles/slurm-ci on a real SLURM: a time limit, two machines; sampling.

A training on two machines is cancelled in the middle. A second workflow, beside it, has a training
that exceeds its time. A third, through profiles/slurm, samples three models, of which one takes
longer than the others and one fails at first.
"""

import re
import shutil
import subprocess
import sys
import time

import pytest
from cluster import Cluster, Started, missing, of_rule
from running import ROOT, snakemake
from safetensors.torch import load_file

HERE = ROOT / "tests/workflow/slurm"
OVERLAYS = [HERE / "tiny.yaml"]
PROFILE = ROOT / "profiles/slurm-ci"
SAMPLING = [*OVERLAYS, HERE / "sampling.yaml"]
SAMPLED = {name: f"results/evaluation/{name}/synthetic" for name in ("copy", "truth", "xunet")}
QUICK = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "8")
MODEL = "results/models/xunet_lite/model.safetensors"
LONGEST_S = 600

# Two processes of this machine, started by torchrun, with the job that srun's processes had.
LOCALLY = """
import json, runpy, sys
from regaze.training.launch import Named, launch
job = json.load(open("results/state/xunet_lite/job.json"))
job = Named({key: Named(value) if isinstance(value, dict) else value for key, value in job.items()})
job.params["state"], job["log"] = "local/state", []
job["output"] = Named({key: f"local/{key}" for key in job.output})
launch(runpy.run_path(sys.argv[1])["main"], job, 2)
"""

absent = missing()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(absent), reason=f"NO SLURM HERE: missing {'; '.join(absent)}"),
    pytest.mark.whole,
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What happened: folders, both workflows, and all jobs that SLURM knows of."""
    root = tmp_path_factory.mktemp("slurm")
    local = root / "local"
    pairs, model = "results/synthetic/pairs.parquet", "results/models/xunet/model.safetensors"
    made = snakemake(local, "faces", pairs, model, overlays=SAMPLING)
    assert made.returncode == 0, made.output[-3000:]
    cluster = Cluster(root / "cluster")
    started = time.monotonic()
    workflows = []
    try:
        cluster.up()
        slow = shutil.copytree(local, root / "slow")
        endless = Started(
            *(cluster, slow, PROFILE),
            *("--retries", "0", "results/models/resnet/model.safetensors"),
            *("--slurm-init-seconds-before-status-checks", "25"),
            overlays=[*OVERLAYS, HERE / "endless.yaml"],
        )
        workflows.append(endless)
        whole = root / "whole"
        main = Started(cluster, whole, PROFILE, MODEL, overlays=OVERLAYS)
        workflows.append(main)
        sampled = shutil.copytree(local, root / "sampled")
        failing = sampled / SAMPLED["truth"]
        failing.parent.mkdir(parents=True)
        failing.write_text("no folder")
        sampling, cancelled, made, lost = None, [], {}, set()
        while any(workflow.process.poll() is None for workflow in workflows):
            jobs = cluster.jobs()
            # Not earlier: the training that exceeds its minute has to get to a state in it.
            begun = (slow / "results/state/resnet/state.pt").exists()
            if sampling is None and (begun or endless.process.poll() is not None):
                sampling = Started(
                    *(cluster, sampled, ROOT / "profiles/slurm", *QUICK),
                    *(f"{folder}/samples.h5" for folder in SAMPLED.values()),
                    overlays=SAMPLING,
                )
                workflows.append(sampling)
            states = [job["state"] for job in of_rule(jobs, sampled, "sample_model")]
            if failing.is_file() and "FAILED" in states:
                failing.unlink()
            for name, folder in SAMPLED.items():
                if (sampled / folder / "samples.h5").exists():
                    made.setdefault(name, time.monotonic())
                elif name in made:
                    lost.add(name)
            training = of_rule(jobs, whole, "train_model")
            if not cancelled and (whole / "results/state/xunet_lite/state.pt").exists():
                cancelled = [job["id"] for job in training if job["state"] == "RUNNING"]
                for job in cancelled:
                    cluster.run("scancel", job)
            if time.monotonic() - started > LONGEST_S:
                pytest.fail(f"{[one.output[-3000:] for one in workflows]} {jobs}")
            time.sleep(0.3)
        jobs = cluster.jobs()
    finally:
        left = cluster.end(workflows)
    print(f"{time.monotonic() - started:.0f} s on SLURM, {len(jobs)} jobs")
    for job in jobs:
        print(job)
    return {
        **{"local": local, "whole": whole, "slow": slow, "main": main, "endless": endless},
        **{"jobs": jobs, "cancelled": cancelled, "left": left},
        **{"sampled": sampled, "sampling": sampling, "made": made, "lost": lost},
    }


def test_the_workflow_finished_with_the_pictures_of_a_local_run(ran):
    assert ran["main"].process.returncode == 0, ran["main"].output[-4000:]
    shards = sorted((ran["local"] / "results/synthetic/faces").glob("shard-*.h5"))
    assert len(shards) == 2
    for shard in shards:
        again = ran["whole"] / shard.relative_to(ran["local"])
        assert again.read_bytes() == shard.read_bytes(), shard.name


def test_models_are_sampled_one_by_one_whatever_the_others_do(ran):
    assert ran["sampling"].process.returncode == 0, ran["sampling"].output[-4000:]
    jobs = {name: of_rule(ran["jobs"], ran["sampled"], "sample_model", name) for name in SAMPLED}
    states = {name: [job["state"] for job in tries] for name, tries in jobs.items()}
    alone, again = ["COMPLETED"], ["FAILED", "COMPLETED"]
    assert states == {"copy": alone, "truth": again, "xunet": alone}
    # The one that failed asks for more, the others are none the wiser.
    memory = {name: [job["memory"] for job in tries] for name, tries in jobs.items()}
    assert memory == {"copy": ["3000M"], "truth": ["3000M", "6000M"], "xunet": ["3000M"]}
    assert ran["lost"] == set()
    assert ran["made"]["xunet"] - ran["made"]["copy"] > 5, "longer than the latency wait"


def test_a_job_beyond_its_time_is_told_so_and_leaves_its_state(ran):
    (job,) = of_rule(ran["jobs"], ran["slow"], "train_estimator", "resnet")
    assert job["state"] == "TIMEOUT"
    assert ran["endless"].process.returncode != 0
    assert "SLURM status is: 'TIMEOUT'" in ran["endless"].output
    assert (ran["slow"] / "results/state/resnet/state.pt").exists()
    assert not (ran["slow"] / "results/models/resnet").exists()
    log = (ran["slow"] / "logs/train_estimator/resnet.log").read_text()
    assert "stopped at step" in log


def test_two_machines_cancelled_once_train_what_two_undisturbed_local_processes_do(ran):
    tries = of_rule(ran["jobs"], ran["whole"], "train_model", "xunet_lite")
    assert [job["id"] for job in tries][:-1] == ran["cancelled"]
    assert [job["state"] for job in tries] == ["CANCELLED", "COMPLETED"]
    assert [(job["nodes"], job["memory"]) for job in tries] == [("2", "1000M"), ("2", "2000M")]
    log = (ran["whole"] / "logs/train_model/xunet_lite.log").read_text()
    assert re.search(r"rank 0 \S+: resuming at step [1-9]", log)
    script = ROOT / "workflow_scripts/train_model.py"
    line = [sys.executable, "-c", LOCALLY, str(script)]
    done = subprocess.run(line, cwd=ran["whole"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    there = load_file(ran["whole"] / MODEL)
    here = load_file(ran["whole"] / "local/model")
    assert there.keys() == here.keys()
    for key, value in here.items():
        assert (there[key] - value).norm() <= 1e-6 * value.norm(), key


def test_nothing_is_left(ran):
    assert ran["left"] == []
    assert list((ran["whole"] / "results").rglob(".*.part")) == []
