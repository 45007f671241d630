"""Training on several processes: starts torchrun for a rule, or takes part where one has started.

A ``script:`` of Snakemake runs inside Snakemake's own process, which torchrun cannot be. So the
script's ``main`` is handed to :func:`launch`: with one process it is simply called; with several
the job goes into a JSON file beside the training's state, and every process that torchrun starts
calls ``main`` with it. Training on several machines is a step of a SLURM job, whose processes srun
starts in the same way. Where the environment says that this process is one of several already,
nothing is started. ``docs/training.md`` and ``docs/cluster.md`` tell the rest.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import cuda, distributed
from torch.distributed.elastic.multiprocessing.errors import record

from regaze.jobs import recorded
from regaze.outputs import replacing
from regaze.training.loop import Interrupted

_NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_BY_SRUN = "REGAZE_PROCESSES_OF_SRUN"
_PARTS = ("input", "output", "params", "resources")
_ERROR = re.compile(r" ERROR (rank \d+) \S+: (.*)")


class Named(dict):
    """A dictionary whose entries are attributes too, as those of Snakemake's jobs are."""

    def __getattr__(self, name: str):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def launch(main: Callable, job, processes: int | None = None) -> None:
    """Call ``main(job)`` once, or once in each of several processes.

    Args:
        main: top-level function of a script that calls :func:`regaze.jobs.start` itself.
        job: Snakemake's job; ``params`` has ``config`` with a section ``train``, and ``state``.
        processes: how many on this machine; None means one per GPU of ``train.gpus``, on each of
            ``train.nodes`` machines.

    Raises:
        ValueError: there are fewer GPUs than asked for, the batch cannot be shared, several
            machines are asked for outside a SLURM job, or the environment describes a process of
            several incompletely.
        Interrupted: SIGTERM arrived and all processes have ended; their state is saved.
        RuntimeError: a process failed; the message tells which one and its error.
    """
    recorded(job)
    if all(name in os.environ for name in _NEEDED):
        _take_part(main, describe(job))
        return
    train = job.params["config"]["train"]
    nodes = train.get("nodes", 1) if processes is None else 1
    if processes is None:
        processes = train["gpus"]
        found = cuda.device_count() if processes > 1 else processes
        if found < processes:
            raise ValueError(f"train.gpus: expected {processes} GPUs, found {found} here")
    if processes <= 1 and nodes == 1:
        main(job)
        return
    missing = [name for name in _NEEDED if name not in os.environ]
    if "RANK" in os.environ:
        raise ValueError(f"environment: RANK is set, {', '.join(missing)} is not")
    per_node = max(processes, 1)
    if train["batch"] % (per_node * nodes):
        raise ValueError(
            f"train.batch: {train['batch']} cannot be shared by {per_node * nodes} processes"
        )
    if nodes > 1 and not os.environ.get("SLURM_JOB_ID"):
        raise ValueError(
            f"train.nodes: {nodes} machines need a SLURM job (snakemake --profile profiles/slurm); "
            "expected SLURM_JOB_ID in the environment, found none"
        )
    path = Path(job.params["state"]) / "job.json"
    with replacing(path) as part:
        content = {"script": main.__globals__["__file__"], **describe(job)}
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    log = job.log[0] if job.log else None
    if nodes == 1:
        _watch(_torchrun(path, per_node), per_node, log)
    else:
        _watch(
            _srun(path, nodes, per_node, job.threads), nodes * per_node, log, _srun_environment()
        )


def describe(job) -> dict:
    """A job as plain values: named inputs, outputs, parameters, resources; log; threads.

    Raises:
        TypeError: a value is neither text, number, list nor dictionary with text as keys.
    """
    found = {
        name: {key: _plain(value, f"{name}.{key}") for key, value in getattr(job, name).items()}
        for name in _PARTS
        if hasattr(job, name)
    }
    return {**found, "log": [str(path) for path in job.log or []], "threads": int(job.threads)}


def _plain(value, where: str):
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"{where}: expected text as keys, found {wrong[0]!r}")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, str | Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"{where}: expected plain values, found {type(value).__name__}")


def _torchrun(path: Path, processes: int) -> list[str]:
    """The command that runs a job file in several processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    return [*command, "-m", "regaze.training.launch", str(path)]


def _srun(path: Path, nodes: int, per_node: int, threads: int) -> list[str]:
    """The command that runs a job file in processes of each machine of this SLURM job."""
    command = ["srun", f"--nodes={nodes}", f"--ntasks={nodes * per_node}"]
    command += [f"--ntasks-per-node={per_node}", f"--cpus-per-task={threads}"]
    # Without it the others would wait for a process that failed until their time is over.
    command += ["--kill-on-bad-exit=1", "--export=ALL"]
    return [*command, sys.executable, "-m", "regaze.training.launch", str(path)]


def _srun_environment() -> dict[str, str]:
    """Where the processes of srun find each other: this machine, which SLURM lists first.

    Jobs that share a machine have different numbers, so the port comes from the job's.
    """
    job = int(os.environ["SLURM_JOB_ID"])
    place = {"MASTER_ADDR": socket.gethostname(), "MASTER_PORT": str(20_000 + job % 12_000)}
    # Of all cores of the machine otherwise, in every process; torchrun does the same.
    place["OMP_NUM_THREADS"] = "1"
    given = {name: os.environ[name] for name in place if name in os.environ}
    return {**place, **given, _BY_SRUN: "1"}


def _watch(
    command: list[str], processes: int, log: str | None, environment: Mapping[str, str] = {}
) -> None:
    """Run a command that starts processes, its output going to the rule's log and to stderr."""
    running = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=_end_with_parent,
    )
    asked = threading.Event()

    def stop(*_):
        asked.set()
        running.terminate()

    previous = None
    if threading.current_thread() is threading.main_thread():
        previous = signal.signal(signal.SIGTERM, stop)
    cause = None
    try:
        with open(log or os.devnull, "w", encoding="utf-8") as stream:
            for line in running.stdout or ():
                cause = cause or _ERROR.search(line)
                sys.stderr.write(line)
                stream.write(line)
                stream.flush()
        status = running.wait()
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait()
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    if asked.is_set() and status:
        raise Interrupted(f"stopped {processes} processes; the state of the last step is saved")
    if status:
        told = f"{cause[1]}: {cause[2]}" if cause else "no error was told"
        raise RuntimeError(f"training on {processes} processes failed (exit {status}): {told}")


def _end_with_parent() -> None:
    """Have Linux end the command when this process is killed: two trainings would share a state."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def _take_part(main: Callable, content: Mapping) -> None:
    """Call ``main`` as one of several processes; only the first writes logs of what goes well."""
    rank = int(os.environ["RANK"])
    job = Named({name: Named(content.get(name, {})) for name in _PARTS})
    # The first one's log is the rule's; with torchrun the launcher writes it.
    job["log"], job["threads"] = content["log"] if rank == 0 else [], content["threads"]
    standard = logging.getLogRecordFactory()

    def with_rank(name, *args, **kwargs):
        return standard(f"rank {rank} {name}", *args, **kwargs)

    logging.setLogRecordFactory(with_rank)
    if rank:
        logging.disable(logging.INFO)
    main(job)
    if distributed.is_initialized():
        distributed.destroy_process_group()


@record
def _start(path: str) -> None:
    """A process of torchrun or srun: run the job of a file that :func:`launch` wrote."""
    if os.environ.get(_BY_SRUN):
        of_slurm = {"RANK": "PROCID", "LOCAL_RANK": "LOCALID", "WORLD_SIZE": "NTASKS"}
        os.environ.update({name: os.environ[f"SLURM_{its}"] for name, its in of_slurm.items()})
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    script = runpy.run_path(content["script"])
    _take_part(script["main"], content | {"log": []})


if __name__ == "__main__":
    _start(sys.argv[1])
