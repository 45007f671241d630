"""The whole workflow in miniature through profiles/slurm: every file is that of a local run."""

import time

import pytest
from cluster import Cluster, Started, missing, of_rule
from kills import differences
from running import ROOT

PROFILE = ROOT / "profiles/slurm"
# What docs/cluster.md has every cluster say for itself: partitions, limits, CPUs of a node.
OVERLAY = """
resources: {partition: cpu, gpu_partition: gpu, max_runtime: 60, max_mem_mb: 16000}
capture: {threads: 2}
"""
HERE = ("--slurm-init-seconds-before-status-checks", "8", "--latency-wait", "5")
LONGEST_S = 1500

absent = missing()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(absent), reason=f"NO SLURM HERE: missing {'; '.join(absent)}"),
    pytest.mark.whole,
]


def test_the_whole_workflow_on_slurm_makes_the_bytes_of_a_local_run(finished, tmp_path):
    overlay = tmp_path / "cluster.yaml"
    overlay.write_text(OVERLAY)
    cluster = Cluster(tmp_path / "cluster")
    began = time.monotonic()
    run = None
    try:
        cluster.up()
        run = Started(cluster, tmp_path / "there", PROFILE, *HERE, overlays=[overlay])
        status = run.process.wait(timeout=LONGEST_S)
        jobs = cluster.jobs()
    finally:
        left = cluster.end([run] if run else [])
    print(f"{time.monotonic() - began:.0f} s on SLURM, {len(jobs)} jobs")
    assert status == 0, run.output[-4000:]
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert len(of_rule(jobs, tmp_path / "there", "normalise_shard")) == 2
    # A task of an array has the array's number and its own.
    assert not any("_" in job["id"] for job in jobs)
    assert left == []
    # The page prints the configuration, in which rendering has the cluster's number of processes.
    other = set(differences(tmp_path / "there", finished)) - {"differs: report/index.html"}
    assert other == set()
