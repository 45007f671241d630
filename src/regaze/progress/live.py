"""Snakemake's log as one live line; as plain lines where there is no terminal.

What is shown: the share of the expected work that is done, the time left, and what runs, with how
far each training is. Warnings and errors stand above it; the full log stays in Snakemake's file.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from snakemake.logging import ColorizingTextHandler, get_event
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from regaze.progress import LOG_FILES_ONLY
from regaze.progress.plan import Plan

_STEP = re.compile(r"step (\d+)/(\d+) ")
_PASSED_ON = ("Complete log(s)", "Nothing to be done")
_FAILURES = {LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR}


class Progress:
    """How far a run is: which jobs have ended, which run, and how fast this machine is.

    Args:
        plan: of the run.
        now: seconds of a clock.
    """

    def __init__(self, plan: Plan, now=time.monotonic):
        self.plan, self._now = plan, now
        self.done: set[int] = set()
        self.running: dict[int, tuple[float, str | None]] = {}
        self._expected = self._taken = 0.0
        self._begun = now()

    def start(self, number: int, log: str | None = None) -> None:
        """A job begins; ``log`` is the file that it writes, where its steps are looked up."""
        self.running[number] = (self._now(), log)

    def end(self, number: int) -> float:
        """A job has ended well; returns the seconds that it took."""
        begun, _ = self.running.pop(number, (self._now(), None))
        self.done.add(number)
        self._taken += (taken := self._now() - begun)
        self._expected += self.plan.wall(number)
        return taken

    def fail(self, number: int) -> None:
        """A job has ended badly: it is to be run again, or the run ends."""
        self.running.pop(number, None)

    @property
    def pace(self) -> float:
        """Seconds that jobs take here for every second expected, of the last ones and of running.

        A minute of expected work counts as having gone as expected, so that the first short jobs,
        which mostly import, don't decide.
        """
        expected, taken = self._expected, self._taken
        for number, (begun, log) in self.running.items():
            if share := share_of_steps(log):
                expected += share * self.plan.wall(number)
                taken += self._now() - begun
        return (60 + taken) / (60 + expected)

    def share(self, number: int) -> float:
        """How much of a running job is done, from 0 to 1: by its steps, or by the time it took."""
        begun, log = self.running[number]
        if share := share_of_steps(log):
            return share
        ratio = (self._now() - begun) / max(self.pace * self.plan.wall(number), 1e-9)
        # One that takes longer than expected comes closer and closer to its end.
        return ratio if ratio < 0.8 else 1 - 0.2 * math.exp(4 - 5 * ratio)

    def passed(self) -> float:
        """Seconds since the run began."""
        return self._now() - self._begun

    def done_share(self) -> float:
        """Share of the expected work that is done, from 0 to 1."""
        costs = {number: job.seconds for number, job in self.plan.jobs.items()}
        done = sum(costs[number] for number in self.done if number in costs)
        done += sum(costs[number] * self.share(number) for number in self.running)
        return done / max(sum(costs.values()), 1e-9)

    def seconds_left(self) -> float:
        """Until the last job ends."""
        running = {}
        for number, (begun, log) in self.running.items():
            passed = self._now() - begun
            if share := share_of_steps(log):
                running[number] = passed * (1 - share) / share
            else:
                running[number] = max(self.pace * self.plan.wall(number) - passed, 0.0)
        return self.plan.left(self.done, running, self.pace)

    def names(self) -> str:
        """What runs, longest first, with the percentage of steps where a log tells."""
        shown = []
        for number, (_, log) in sorted(
            self.running.items(), key=lambda one: -self.plan.ranks[one[0]]
        ):
            share = share_of_steps(log)
            shown.append(self.plan.jobs[number].name + (f" {share:.0%}" if share else ""))
        return ", ".join(shown)


def share_of_steps(log: str | None) -> float:
    """Share of a training's steps that its log file says are done; 0 where it says nothing."""
    if not log:
        return 0.0
    try:
        with Path(log).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
            found = _STEP.findall(file.read().decode("utf-8", "replace"))
    except OSError:
        return 0.0
    return int(found[-1][0]) / max(int(found[-1][1]), 1) if found else 0.0


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``50 s``, ``7 min``, ``2 h 10 min``."""
    if seconds < 55:
        return f"{max(round(seconds, -1), 10):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class LogHandler(LogHandlerBase):
    """Shows a run on the terminal in place of Snakemake's text: ``snakemake --logger regaze``.

    The Snakefile gives it the plan when the run begins (:meth:`follow`).
    """

    def __post_init__(self) -> None:
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        self.progress: Progress | None = None
        self._live: Live | None = None
        self._told = time.monotonic()
        self._lock = threading.Lock()
        self._plain = None
        if self.common_settings.dryrun:
            self._plain = ColorizingTextHandler(self.common_settings.nocolor, self.stream)
            return
        # Jobs leave the terminal to the line: their logs are files, shown where they fail.
        os.environ[LOG_FILES_ONLY] = "1"
        self.console = Console(
            file=self.stream, highlight=False, no_color=self.common_settings.nocolor or None
        )

    def follow(self, plan: Plan) -> None:
        """Show how far the jobs of ``plan`` are from now on."""
        self.progress = Progress(plan)
        if self.console.is_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=self.line,
                refresh_per_second=1,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take what Snakemake logs: events move the line, warnings and errors are printed."""
        if self._plain:
            self._plain.setFormatter(self.formatter)
            self._plain.emit(record)
            return
        event, progress = get_event(record), self.progress
        if event in _FAILURES or record.levelno >= logging.WARNING or _passed_on(record):
            self._print(self.format(record), "red" if record.levelno >= logging.ERROR else None)
        if progress is None:
            return
        with self._lock:
            if event == LogEvent.JOB_INFO:
                progress.start(record.jobid, next(iter(record.log or []), None))
            elif event == LogEvent.JOB_ERROR:
                progress.fail(record.jobid)
            elif event == LogEvent.JOB_FINISHED and record.job_id in progress.plan.jobs:
                taken = progress.end(record.job_id)
                name = progress.plan.jobs[record.job_id].name
            else:
                return
        if event == LogEvent.JOB_FINISHED and not self._live and progress.plan.wall(record.job_id):
            self._print(f"{self._summary()}; {name} took {duration(taken)}")

    def line(self) -> Table:
        """The live line."""
        with self._lock:
            share, names = self.progress.done_share(), self.progress.names()
            left = self._left()
        table = Table.grid(padding=(0, 1), expand=True)
        for options in ({"width": 4}, {"width": 20}, {"no_wrap": True}, {"ratio": 1}):
            table.add_column(overflow="ellipsis", **{"no_wrap": True} | options)
        table.add_row(f"{share:.0%}", ProgressBar(1, share, width=20), left, names)
        return table

    def close(self) -> None:
        """Take the line away, and say so where all is done."""
        if self._live:
            self._live.stop()
            self._live = None
        progress, self.progress = self.progress, None
        if progress and progress.done >= progress.plan.jobs.keys():
            self._print(f"{len(progress.done)} jobs done in {duration(progress.passed())}")
        super().close()

    def _summary(self) -> str:
        done, jobs = len(self.progress.done), len(self.progress.plan.jobs)
        return (
            f"[{time.strftime('%H:%M:%S')}] {self.progress.done_share():.0%} of the work, "
            f"{done} of {jobs} jobs, {self._left()}"
        )

    def _left(self) -> str:
        return f"about {duration(self.progress.seconds_left())} left"

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return False

    @property
    def has_formatter(self) -> bool:
        return False

    @property
    def needs_rulegraph(self) -> bool:
        return False


def _passed_on(record: logging.LogRecord) -> bool:
    return str(record.msg).startswith(_PASSED_ON)
