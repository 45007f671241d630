"""One workflow at a time in a folder, and no job of one that was killed.

Two locks of the kernel (``flock``) in ``.snakemake``, which it lets go of when their holder dies,
so that nothing has to be unlocked after a kill. Snakemake's own lock is a file that outlives its
process; ``profiles/default`` turns it off. A running workflow holds ``workflow.lock``; its jobs
share ``jobs.lock``. A job also watches the workflow that started it and ends when that is gone,
because the next workflow would start the same job again, on the same files.

The Snakefile imports this module: standard library only.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import threading
import time
from pathlib import Path

_WORKFLOW = "REGAZE_WORKFLOW"
_HELD: dict[str, int] = {}


class Occupied(RuntimeError):
    """Another workflow, or a job of an earlier one, is at work in the folder."""


def hold_workflow(folder: str | os.PathLike = ".snakemake", patience: float = 60.0) -> None:
    """Make this process the only workflow in a folder, until it ends.

    Args:
        folder: where the locks are; made when it is missing.
        patience: seconds to wait for jobs of a workflow that was killed; they are ending.

    Raises:
        Occupied: another workflow runs here, or jobs of an earlier one do not end.
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "workflow.lock"
    handle = _lock(path, fcntl.LOCK_EX, patience=0)
    if handle is None:
        raise Occupied(
            f"{path.resolve()}: process {path.read_text().strip() or '?'} runs a workflow in this "
            "folder; wait until it has ended, or stop it"
        )
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()} on {socket.gethostname()}\n".encode())
    path = folder / "jobs.lock"
    jobs = _lock(path, fcntl.LOCK_EX, patience)
    if jobs is None:
        os.close(handle)
        raise Occupied(
            f"{path.resolve()}: jobs of an earlier workflow are still running in this folder; wait "
            "until they have ended, or stop them (lslocks names their processes)"
        )
    os.close(jobs)
    _keep("workflow", handle)
    os.environ[_WORKFLOW] = f"{os.getpid()} {socket.gethostname()}"


def join_workflow(folder: str | os.PathLike = ".snakemake") -> None:
    """Take part as a job: share the lock, and be killed when the workflow is gone.

    Without the folder, as in tests that call a script, nothing is done. Jobs that a cluster's
    scheduler started outlive the workflow that submitted them; the lock alone tells of them.

    Raises:
        Occupied: the workflow that started this job has been killed already.
    """
    if not Path(folder).is_dir():
        return
    handle = _lock(Path(folder) / "jobs.lock", fcntl.LOCK_SH, None)
    assert handle is not None, "waits for ever"
    _keep("jobs", handle)
    pid, _, host = os.environ.get(_WORKFLOW, "").partition(" ")
    if not pid or host != socket.gethostname() or not Path("/proc/self/stat").exists():
        return
    above = _ancestors()
    if int(pid) not in above:
        if "SLURM_JOB_ID" not in os.environ and not Path("/proc", pid).exists():
            raise Occupied(f"the workflow that started this job (process {pid}) has ended")
        return
    watched = []
    for ancestor in above[: above.index(int(pid)) + 1]:
        try:
            watched.append(os.pidfd_open(ancestor))
        except ProcessLookupError:
            raise Occupied(f"the workflow that started this job (process {pid}) ends") from None
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: list[int]) -> None:
    """Wait for the end of one of the processes, then end this one at once.

    SIGTERM would let a training save its state, while the next workflow waits for it.
    """
    waiting = select.poll()
    for handle in watched:
        waiting.register(handle, select.POLLIN)
    waiting.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def _ancestors() -> list[int]:
    """Processes above this one, nearest first."""
    found, pid = [], os.getppid()
    while pid > 1:
        found.append(pid)
        try:
            # The name, in brackets, may hold spaces and brackets.
            fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        pid = int(fields[1])
    return found


def _lock(path: Path, kind: int, patience: float | None) -> int | None:
    """An open file with its lock; None when others keep it longer than ``patience`` seconds.

    ``patience`` None waits for ever. On file systems without locks the file alone is returned.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    end = None if patience is None else time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, kind | (0 if end is None else fcntl.LOCK_NB))
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(handle)
                return None
            time.sleep(0.2)
            continue
        except OSError:
            pass
        return handle


def _keep(name: str, handle: int) -> None:
    """Hold a lock for the rest of the process; a second time it is held already."""
    if name in _HELD:
        os.close(handle)
    else:
        _HELD[name] = handle
