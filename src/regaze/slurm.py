"""Jobs that Snakemake's SLURM executor waits for without end, and limits that it does not know.

The executor (snakemake-executor-plugin-slurm 2.8.0) asks for the states of all jobs of a workflow
at once. A question without an answer makes it forget the jobs that it asked about; PREEMPTED,
``CANCELLED by 1000`` (as ``sacct`` writes it) and a job that SLURM knows no more are waited for
without end; without an accounting database ``sacct`` never answers. No setting of its own covers
these, so :class:`Answers` stands between it and the answers. What ``sinfo`` tells of partitions is
compared with what the jobs and their retries will ask for, because SLURM refuses a job that
asks for too much, or leaves it waiting for ever.

Light: the Snakefile imports this module. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from logging import Logger
from typing import Any

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "TIMEOUT"}
)
"""States of a job that has ended, as SLURM's manual of squeue names them."""
REQUEUED = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED"})
"""States after which SLURM may put the same job into its queue again."""


def attend(workflow: Any, logger: Logger) -> None:
    """Make the executor of a workflow that begins see to all states; warn of limits.

    Args:
        workflow: Snakemake's, in ``onstart``; nothing is done where its executor is not SLURM.
        logger: what warnings go to.
    """
    if workflow.executor_plugin.name != "slurm":
        return
    import snakemake_executor_plugin_slurm as plugin

    plugin.query_job_status = Answers(
        plugin.query_job_status, plugin.query_job_status_squeue, logger
    )
    if workflow.executor_settings.array_jobs:
        logger.warning(
            "slurm-array-jobs: arrays of the SLURM executor 2.8.0 delete results of tasks that end "
            "before the first one; see docs/cluster.md"
        )
    chosen = workflow.executor_settings.partition_config or os.getenv("SNAKEMAKE_SLURM_PARTITIONS")
    if chosen:
        # The executor chooses partitions by limits that the user has written down.
        return
    for line in beyond(requests(workflow.dag), partitions()):
        logger.warning(line)


class Answers:
    """Asks for the states of a workflow's jobs, and answers in states that the executor knows.

    Args:
        ask: the executor's own question, ``await ask(command, logger)``: states by job and the
            seconds it took, or None twice.
        squeue: makes the command that asks the controller, from the name of all jobs of a run.
        logger: what warnings go to.
    """

    def __init__(
        self,
        ask: Callable[[str, Logger], Awaitable[tuple[dict[str, str] | None, float | None]]],
        squeue: Callable[[str], str],
        logger: Logger,
    ):
        self.ask, self.squeue, self.logger = ask, squeue, logger
        self.alive: set[str] = set()
        self.told: set[str] = set()

    async def __call__(self, command: str, logger: Logger) -> tuple[dict[str, str], float]:
        """States by job, and seconds; empty where nobody answers, which keeps all jobs asked for.

        Args:
            command: ``sacct`` or ``squeue`` with their options; the run's name is the last.
            logger: of the executor.
        """
        run = command.split()[-1]
        states, seconds = await self.ask(command, logger)
        if states is not None:
            states = {job: state.split(" ")[0] for job, state in states.items()}
        controller = not command.startswith("sacct")
        if not controller and (states is None or REQUEUED & set(states.values())):
            # The database is silent, or behind: the controller has such a job queued again.
            controller = states is None
            queued, more = await self.ask(self.squeue(run), logger)
            if queued is not None:
                states, seconds = (states or {}) | queued, (seconds or 0.0) + more
        if states is None:
            self.logger.warning("SLURM does not answer; it will be asked again.")
            return {}, 0.0
        for job in self.alive - states.keys() if controller else ():
            self._tell(
                job,
                f"SLURM no longer knows job {job}, which counts as failed. If it ended well, "
                "MinJobAge of this cluster (scontrol show config) is too short for squeue.",
            )
            states[job] = "FAILED"
        for job, state in states.items():
            if state == "PREEMPTED":
                self._tell(job, f"SLURM preempted job {job}, which counts as failed.")
                states[job] = "CANCELLED"
        # Of the controller's own cluster alone. Tasks of an array that wait share a line: 7_[2-9].
        going = {job for job, state in states.items() if state not in ENDED and "[" not in job}
        self.alive = going if controller else set()
        return states, seconds

    def _tell(self, job: str, line: str) -> None:
        if job not in self.told:
            self.told.add(job)
            self.logger.warning(line)


@dataclass(frozen=True)
class Partition:
    """Limits of a partition: those of its largest node, and its own."""

    state: str
    mem_mb: int
    cpus: int
    minutes: int | None
    default: bool = False


@dataclass(frozen=True)
class Request:
    """What one attempt of a rule's jobs asks for; None is not asked for."""

    rule: str
    attempt: int
    partition: str | None
    mem_mb: int | None
    minutes: int | None
    cpus: int


def partitions() -> dict[str, Partition] | None:
    """The cluster's partitions as ``sinfo`` tells them, None where it does not answer."""
    try:
        done = subprocess.run(
            ["sinfo", "-h", "-e", "-o", "%P|%a|%l|%m|%c"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return parse_partitions(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def parse_partitions(text: str) -> dict[str, Partition]:
    """Partitions from lines ``name|state|time limit|MB|CPUs``, one or more for each.

    Raises:
        ValueError: a line is of another kind.
    """
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        name, state, limit, mem_mb, cpus = (part.strip() for part in line.split("|"))
        mem_mb, cpus = int(mem_mb.rstrip("+")), int(cpus.rstrip("+"))
        default, name = name.endswith("*"), name.rstrip("*")
        if name in found:
            mem_mb, cpus = max(mem_mb, found[name].mem_mb), max(cpus, found[name].cpus)
        found[name] = Partition(state, mem_mb, cpus, parse_minutes(limit), default)
    return found


def parse_minutes(limit: str) -> int | None:
    """Minutes of a time limit such as ``2-12:00:00`` or ``30:00``; None for ``infinite``.

    Raises:
        ValueError: it is neither.
    """
    if limit.lower() in ("infinite", "unlimited", "n/a"):
        return None
    days, _, rest = limit.rpartition("-")
    seconds = [int(part) for part in reversed(rest.split(":"))]
    return int(days or 0) * 1440 + sum(n * 60**power for power, n in enumerate(seconds)) // 60


def requests(dag: Any) -> Iterator[Request]:
    """What the jobs of a workflow will ask for, attempt by attempt, equal ones once.

    Args:
        dag: Snakemake's.
    """
    seen = set()
    for job in dag.needrun_jobs():
        if job.is_local or job.is_norun:
            continue
        first = _request(job, 1, job.resources)
        if first in seen:
            continue
        seen.add(first)
        yield first
        for attempt in range(2, 2 + job.restart_times):
            asked = job.rule.expand_resources(job.wildcards, job.input, attempt, {"disk_mb"})
            yield _request(job, attempt, asked)


def _request(job: Any, attempt: int, asked: Any) -> Request:
    def number(name):
        value = asked.get(name)
        return value if isinstance(value, int) else None

    partition = asked.get("slurm_partition")
    return Request(
        *(job.rule.name, attempt, None if partition is None else str(partition)),
        *(number("mem_mb"), number("runtime"), job.threads),
    )


def beyond(asked: Iterable[Request], known: dict[str, Partition] | None) -> list[str]:
    """Lines that name what the cluster's partitions do not allow, the first attempt of each.

    Args:
        asked: what jobs ask for.
        known: partitions by name, None where ``sinfo`` did not answer.
    """
    if known is None:
        return [
            "sinfo does not answer: what jobs ask for is not compared with what partitions allow. "
            "Retries ask for more, up to resources.max_runtime and resources.max_mem_mb."
        ]
    lines: dict[tuple, str] = {}
    usual = [name for name, partition in known.items() if partition.default]
    for one in asked:
        # SLURM takes several names with commas, and the first partition that can run the job.
        names = one.partition.split(",") if one.partition else usual
        for name in names:
            if name not in known:
                line = f"no partition {name!r} (of {one.rule}); sinfo knows {', '.join(known)}"
                lines.setdefault((name,), line)
            elif known[name].state != "up":
                line = f"partition {name} is {known[name].state}: its jobs wait, or are refused"
                lines.setdefault((name,), line)
        there = [known[name] for name in names if name in known]
        if not there:
            continue
        limits = [partition.minutes for partition in there]
        compared = {
            "minutes": (one.minutes, None if None in limits else max(limits), "max_runtime"),
            "MB": (one.mem_mb, max(partition.mem_mb for partition in there), "max_mem_mb"),
            "CPUs": (one.cpus, max(partition.cpus for partition in there), None),
        }
        for unit, (wanted, allowed, key) in compared.items():
            if wanted is None or allowed is None or wanted <= allowed:
                continue
            cure = f"set resources.{key}: {allowed}" if key else "lower its threads"
            lines.setdefault(
                (one.rule, one.partition, unit),
                f"attempt {one.attempt} of {one.rule} asks for {wanted} {unit}, more than the "
                f"{allowed} of partition {','.join(names)}: SLURM will refuse it, or let it wait "
                f"for ever; {cure}",
            )
    return list(lines.values())
