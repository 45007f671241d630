"""Locks that go with their holder, and jobs that go with their workflow."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from regaze.locks import Occupied, _end_with, hold_workflow, join_workflow

HOLD = "import time; from regaze import locks; locks.{call}; print('ready', flush=True); {then}"


@pytest.fixture
def started(tmp_path):
    """Start a process that calls a function of the module in ``tmp_path``, and wait for it."""
    running = []

    def start(call, then="time.sleep(60)"):
        line = [sys.executable, "-c", HOLD.format(call=call, then=then)]
        process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What holding a lock leaves behind in this process goes with the test."""
    from regaze import locks

    monkeypatch.setattr(locks, "_HELD", {})
    for name in ("REGAZE_WORKFLOW", "SLURM_JOB_ID"):
        # Set first, so that monkeypatch restores what the functions change.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_second_workflow_is_refused_until_the_first_is_dead(tmp_path, started):
    folder = tmp_path / ".snakemake"
    first = started("hold_workflow()")
    with pytest.raises(Occupied, match=rf"process {first.pid} on .* runs a workflow in this"):
        hold_workflow(folder)
    first.kill()
    first.wait()
    hold_workflow(folder)
    assert (folder / "workflow.lock").read_text().startswith(f"{os.getpid()} on ")


def test_a_workflow_waits_for_jobs_of_an_earlier_one(tmp_path, started):
    folder = tmp_path / ".snakemake"
    folder.mkdir()
    job = started("join_workflow()")
    with pytest.raises(Occupied, match="jobs of an earlier workflow are still running"):
        hold_workflow(folder, patience=0.3)
    job.kill()
    hold_workflow(folder, patience=10)


def test_a_job_ends_with_its_workflow(tmp_path, started):
    spawn = "import subprocess, sys; job = subprocess.Popen([sys.executable, '-c', "
    spawn += "'import time; from regaze.locks import join_workflow; join_workflow(); "
    spawn += "print(1, flush=True); time.sleep(60)'], stdout=subprocess.PIPE); "
    spawn += "job.stdout.read(1); print(job.pid, flush=True); time.sleep(60)"
    workflow = started("hold_workflow()", then=spawn)
    job = int(workflow.stdout.readline())
    workflow.kill()
    workflow.wait()
    # The kernel lets go of the job's lock when it is dead.
    hold_workflow(tmp_path / ".snakemake", patience=10)
    state = Path(f"/proc/{job}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_job_whose_workflow_is_dead_does_not_begin(tmp_path, started, monkeypatch):
    folder = tmp_path / ".snakemake"
    gone = started("hold_workflow()")
    gone.kill()
    gone.wait()
    monkeypatch.setenv("REGAZE_WORKFLOW", f"{gone.pid} {socket.gethostname()}")
    with pytest.raises(Occupied, match=f"process {gone.pid}. has ended"):
        join_workflow(folder)
    # Jobs of SLURM outlive the process that submitted them.
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    join_workflow(folder)


def test_without_a_folder_nothing_is_locked(tmp_path):
    join_workflow(tmp_path / ".snakemake")
    assert list(tmp_path.iterdir()) == []


def test_a_workflow_that_ends_while_its_job_begins_is_named(tmp_path, started, monkeypatch):
    folder = tmp_path / ".snakemake"
    gone = started("hold_workflow()")
    gone.kill()
    gone.wait()
    # The parent was there when it was asked for, and is not any more when it is looked at.
    monkeypatch.setattr(os, "getppid", lambda: gone.pid)
    monkeypatch.setenv("REGAZE_WORKFLOW", f"{gone.pid} {socket.gethostname()}")
    with pytest.raises(Occupied, match=f"process {gone.pid}. ends"):
        join_workflow(folder)


def test_a_job_kills_itself_when_one_of_those_above_ends(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda *call: sent.append(call))
    stays, ends = (subprocess.Popen(["cat"], stdin=subprocess.PIPE) for _ in range(2))
    handles = [os.pidfd_open(process.pid) for process in (stays, ends)]
    ends.stdin.close()
    _end_with(handles)
    assert sent == [(os.getpid(), signal.SIGKILL)] and stays.poll() is None
    stays.stdin.close()
    for process, handle in zip((stays, ends), handles, strict=True):
        process.wait()
        os.close(handle)


def test_file_systems_without_locks_are_no_hindrance(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        hold_workflow(tmp_path / ".snakemake")
        join_workflow(tmp_path / ".snakemake")
    assert (tmp_path / ".snakemake/workflow.lock").read_text().startswith(f"{os.getpid()} on ")
