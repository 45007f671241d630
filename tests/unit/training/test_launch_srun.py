"""Processes of srun: what they are told, and that they train what those of torchrun do."""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch

from regaze.training.launch import Named, launch

SCRIPT = Path(__file__).with_name("ddp_script.py")
TRAIN = {"images": 64, "batch": 8, "lr": 0.01, "tensorboard": False, "precision": "fp32"}

# Starts as many processes as it is asked for, as SLURM would on two machines.
SRUN = f"""#!{sys.executable}
import json, os, subprocess, sys
options = dict(part.split("=", 1) for part in sys.argv[1:] if part.startswith("--"))
program = [part for part in sys.argv[1:] if not part.startswith("--")]
json.dump([options, os.environ["MASTER_PORT"]], open(os.environ["TOLD"], "w"))
running = []
for rank in range(int(options["--ntasks"])):
    place = {{"PROCID": rank, "LOCALID": 0, "NTASKS": options["--ntasks"]}}
    env = os.environ | {{f"SLURM_{{name}}": str(value) for name, value in place.items()}}
    running.append(subprocess.Popen(program, env=env))
sys.exit(max(one.wait(60) for one in running))
"""


def job(folder, **train):
    params = {"config": {"train": TRAIN | {"gpus": 0} | train}, "state": str(folder / "state")}
    files = {"model": str(folder / "model.pt"), "curve": str(folder / "curve.json")}
    parts = {"input": Named(), "params": Named(params), "output": Named(files)}
    return Named(parts, log=[str(folder / "job.log")], threads=1)


def run(asked, processes=None):
    launch(runpy.run_path(str(SCRIPT))["main"], asked, processes)
    return torch.load(asked.output.model, weights_only=True)


def test_two_machines_train_what_two_local_processes_do(tmp_path, monkeypatch):
    tool = tmp_path / "bin/srun"
    tool.parent.mkdir()
    tool.write_text(SRUN)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TOLD", str(tmp_path / "told.json"))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("SLURM_JOB_ID", "12345")
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    there = run(job(tmp_path / "there", nodes=2))
    told, port = json.loads((tmp_path / "told.json").read_text())
    assert (told["--nodes"], told["--ntasks"], told["--ntasks-per-node"]) == ("2", "2", "1")
    assert told["--kill-on-bad-exit"] == "1" and port == "20345"
    assert "rank 0 regaze" in (tmp_path / "there/job.log").read_text()
    here = run(job(tmp_path / "here"), 2)
    for key, value in here.items():
        assert torch.equal(there[key], value), key


def test_machines_are_refused_where_they_cannot_be(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ValueError, match="train.nodes: 2 machines need a SLURM job.*found none"):
        launch(print, job(tmp_path, nodes=2))
