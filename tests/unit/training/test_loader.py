"""Loader processes: the same batches, and words where shared memory or their life is too short."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest
import torch

from regaze.training import loader
from regaze.training.loader import LoaderError, loading

Usage = namedtuple("Usage", "total used free")


class Numbers:
    """Batches of 100,000 bytes, and one that is empty; ``act`` is done where batch 5 is loaded."""

    def __init__(self, act=None):
        self.act = act

    def load(self, step):
        if self.act is not None and step == 5:
            self.act()
        pixels = torch.full((100_000,), step, dtype=torch.uint8)
        return {"pixels": pixels, "label": torch.tensor([step]), "none": torch.zeros(0)}

    def finish(self, batch):
        return batch


def follow(act=None, workers=2, end=12, **options):
    with loading(Numbers(act), 2, end, workers=workers, **options) as stream:
        return [(int(batch["label"]), int(batch["pixels"].max())) for batch in stream]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers):
    assert follow(workers=workers) == [(step, step) for step in range(2, 12)]
    assert follow(workers=0, end=2) == []


@pytest.mark.parametrize(
    ("free", "options", "need"),
    [
        (64 << 10, {}, "1.0 MiB"),
        # Two processes on this machine, of which each holds three batches.
        (2 << 20, {"processes": 2, "held": 3}, "2.4 MiB"),
    ],
)
def test_too_little_room_is_told_before_processes_start(monkeypatch, free, options, need):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64 << 20, 0, free))
    monkeypatch.setattr(loader, "DataLoader", lambda *_, **__: pytest.fail("processes started"))
    with pytest.raises(LoaderError) as told:
        follow(**options)
    found = f"{free / 2**20:.1f} of 64.0 MiB free"
    for words in ("train.workers", "/dev/shm", f"about {need}", found, "set train.workers to 0"):
        assert words in str(told.value)
    assert "docker run --shm-size=" in str(told.value)


def test_without_loader_processes_no_room_is_needed(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0))
    assert len(follow(workers=0)) == 10


def test_a_system_without_that_folder_has_shared_memory_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "SHARED", tmp_path / "absent")
    assert len(follow()) == 10
    with pytest.raises(LoaderError, match="found none there"):
        follow(lambda: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGBUS, "Bus error"), (signal.SIGKILL, "Killed")]
)
def test_a_loader_process_that_is_killed_ends_the_training(number, words):
    with pytest.raises(LoaderError, match=rf"DataLoader worker .*{words}; 2 loader .*/dev/shm"):
        follow(lambda: os.kill(os.getpid(), number))


def test_loader_processes_that_hang_end_the_training(monkeypatch):
    monkeypatch.setattr(loader, "PATIENCE_S", 1)
    # How long the library waits for them before it ends them.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    with pytest.raises(LoaderError, match=r"DataLoader timed out after 1 seconds; 2 loader"):
        follow(lambda: time.sleep(30))


def test_other_errors_stay_what_they_are():
    def wrong():
        raise ValueError("a damaged row")

    def runs():
        raise RuntimeError("a damaged row")

    for act, kind in ((wrong, ValueError), (runs, RuntimeError)):
        with pytest.raises(kind, match="a damaged row") as told:
            follow(act)
        assert not isinstance(told.value, LoaderError)
    own = pytest.raises(RuntimeError, match="^of the training$")
    with own, loading(Numbers(), 2, 12, workers=2) as stream:
        next(stream)
        raise RuntimeError("of the training")


SCRIPT = """
import runpy, shutil, sys
test = runpy.run_path(sys.argv[1])
for late in (False, True):
    # As where others take the room after it was looked at.
    if late:
        shutil.disk_usage = lambda path: test["Usage"](64 << 20, 0, 64 << 20)
    try:
        print(len(test["follow"](workers=2, end=200)))
    except test["LoaderError"] as error:
        print(error)
"""


def test_a_small_shared_memory_is_told():
    inner = 'mount -t tmpfs -o size=512k tmpfs /dev/shm && exec "$@"'
    alone = ["unshare", "--mount", "sh", "-c", inner, "sh"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("NOT TESTED, needs the right to mount")
    command = [*alone, sys.executable, "-c", SCRIPT, __file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    early, late = done.stdout.splitlines()
    assert early.startswith("train.workers: too little shared memory; 2 loader processes")
    assert "found 0.5 of 0.5 MiB free" in early
    assert late.startswith("train.workers: unable to allocate shared memory")
    assert "No space left on device" in late and "in /dev/shm" in late
