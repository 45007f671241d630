"""Jobs with costs and what they wait for: which is urgent, and when the last one will end.

Light: the Snakefile imports this module.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from regaze.progress.costs import expected_seconds

_OWN = 10_000
"""Seconds of rank that one step of a rule's own priority counts for."""


@dataclass(frozen=True)
class Job:
    """A job that has to run.

    Attributes:
        name: what a person reads, as ``train_model xunet``.
        seconds: of one core, expected.
        threads: how many cores it holds, and computes on.
        needs: numbers of the jobs that it waits for.
    """

    name: str
    seconds: float
    threads: int = 1
    needs: frozenset[int] = frozenset()


@dataclass
class Plan:
    """All jobs of a run, by number, and how many of them may run beside each other.

    Attributes:
        jobs: by number.
        slots: cores, or jobs of a cluster; ``math.inf`` for any number.
        by_threads: whether a job takes as many slots as it has threads, or one.
    """

    jobs: Mapping[int, Job]
    slots: float = math.inf
    by_threads: bool = True
    ranks: dict[int, float] = field(init=False)
    """Seconds from a job's start to the end of the longest chain of jobs that wait for it."""

    def __post_init__(self):
        waiting: dict[int, list[int]] = {number: [] for number in self.jobs}
        for number, job in self.jobs.items():
            for need in job.needs:
                waiting[need].append(number)
        self._waiting = waiting
        self.ranks = {}
        for number in reversed(self._in_order()):
            after = max((self.ranks[one] for one in waiting[number]), default=0.0)
            self.ranks[number] = self.wall(number) + after

    @classmethod
    def of_workflow(cls, workflow: Any, settings: Any) -> Plan:
        """The plan of Snakemake's ``workflow`` when it begins (``onstart``)."""
        dag = workflow.dag
        todo = [*dag.needrun_jobs()]
        numbers = {job: dag.jobid(job) for job in todo}
        jobs = {
            number: Job(
                " ".join([job.rule.name, *map(str, job.wildcards_dict.values())]),
                # A target without a script only gathers what there is.
                expected_seconds(job.rule.name, job.wildcards_dict, settings)
                if job.rule.script
                else 0.0,
                job.threads,
                frozenset(numbers[one] for one in dag.dependencies[job] if one in numbers),
            )
            for job, number in numbers.items()
        }
        local = workflow.local_exec
        slots = workflow.resource_settings.cores if local else workflow.resource_settings.nodes
        return cls(jobs, slots or math.inf, by_threads=local)

    def prioritise(self, dag: Any) -> None:
        """Have a Snakemake ``dag`` start the most urgent of its ready jobs first.

        Jobs of rules with a priority of their own stay before all others, as do those that the
        user has asked for first (``--prioritize``).
        """
        for job in dag.needrun_jobs():
            if (own := dag.priority(job)) < job.HIGHEST_PRIORITY:
                dag._priority[job] = own * _OWN + math.ceil(self.ranks[dag.jobid(job)])

    def left(self, done: Iterable[int], running: Mapping[int, float], pace: float = 1.0) -> float:
        """Seconds until the last job ends, when ready jobs start the most urgent first.

        Args:
            done: numbers of jobs that have ended.
            running: seconds that running jobs still take, by number.
            pace: seconds that a job takes for each that is expected of it.
        """
        done = set(done)
        needs = {
            number: len(job.needs - done)
            for number, job in self.jobs.items()
            if number not in done and number not in running
        }
        ready = [(-self.ranks[number], number) for number, count in needs.items() if not count]
        heapq.heapify(ready)
        ends = [(max(seconds, 0.0), number) for number, seconds in running.items()]
        heapq.heapify(ends)
        free = self.slots - sum(self._slots(number) for number in running)
        now = 0.0
        while ready or ends:
            later = []
            while ready:
                urgent = heapq.heappop(ready)
                if (slots := self._slots(urgent[1])) > free:
                    later.append(urgent)
                    if free < 1:
                        break
                    continue
                free -= slots
                heapq.heappush(ends, (now + pace * self.wall(urgent[1]), urgent[1]))
            for one in later:
                heapq.heappush(ready, one)
            now, number = heapq.heappop(ends)
            free += self._slots(number)
            for one in self._waiting[number]:
                if one in needs:
                    needs[one] -= 1
                    if not needs[one]:
                        heapq.heappush(ready, (-self.ranks[one], one))
        return now

    def _slots(self, number: int) -> int:
        return min(self.jobs[number].threads, self.slots) if self.by_threads else 1

    def wall(self, number: int) -> float:
        """Seconds that a job is expected to take on the cores that it gets."""
        job = self.jobs[number]
        return job.seconds / max(
            min(job.threads, self.slots) if self.by_threads else job.threads, 1
        )

    def _in_order(self) -> list[int]:
        """Numbers of the jobs, each after all that it needs."""
        missing = {number: len(job.needs) for number, job in self.jobs.items()}
        order = [number for number, count in missing.items() if not count]
        for number in order:
            for one in self._waiting[number]:
                missing[one] -= 1
                if not missing[one]:
                    order.append(one)
        return order
