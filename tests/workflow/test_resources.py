"""The table of resources reaches the jobs, and changes nothing that was made."""

import re

from running import snakemake

RULES = "rules: {train_model: {mem_mb: 7000, runtime: 9, partition: long}}"
CHANGE = f"resources={{default: {{mem_mb: 1}}, max_mem_mb: 6500, partition: p, {RULES}}}"


def test_other_resources_rerun_nothing(finished):
    assert "Nothing to be done" in snakemake(finished, "-n", "--config", CHANGE).output


def test_jobs_ask_for_what_the_table_says(tmp_path):
    done = snakemake(tmp_path, "-n", "--config", CHANGE)
    asked = dict(re.findall(r"^rule (\w+):(?:\n    .*)*?\n    resources: (.*)$", done.output, re.M))
    assert "slurm_partition=long, mem_mb=6500" in asked["train_model"]
    assert "runtime=9" in asked["train_model"] and "runtime=30" in asked["gather_faces"]
    assert "slurm_partition=p, mem_mb=1500" in asked["gather_faces"]
    # Rules of a workflow without GPUs do not ask for any.
    assert not any("gpu=" in line for line in asked.values())
