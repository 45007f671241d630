import io
import logging
import os
from types import SimpleNamespace

import pytest
from rich.console import Console
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from regaze.progress import LOG_FILES_ONLY
from regaze.progress.live import LogHandler, Progress, duration, share_of_steps
from regaze.progress.plan import Job, Plan


@pytest.fixture
def clock():
    return SimpleNamespace(now=0.0)


@pytest.fixture
def progress(clock):
    jobs = {1: Job("capture", 100), 2: Job("train_model xunet", 300, needs=frozenset({1}))}
    return Progress(Plan(jobs, slots=2), now=lambda: clock.now)


def test_a_job_counts_by_the_time_it_took_until_it_ends(progress, clock):
    progress.start(1)
    clock.now = 50
    assert progress.done_share() == pytest.approx(0.125, rel=0.2)
    before = progress.seconds_left()
    clock.now = 100
    assert progress.end(1) == 100
    assert progress.done_share() == 0.25
    assert progress.seconds_left() == 300 < before


def test_no_job_seems_finished_however_long_it_takes(progress, clock):
    progress.start(1)
    shares = []
    for clock.now in (10, 50, 100, 200, 500):
        shares.append(progress.share(1))
    assert shares == sorted(shares) and shares[-1] < 1


def test_a_slow_machine_is_noticed(progress, clock):
    progress.start(1)
    clock.now = 300
    progress.end(1)
    # 100 s expected took 300; a minute of prior belief.
    assert progress.pace == pytest.approx(360 / 160)
    assert progress.seconds_left() == pytest.approx(300 * 360 / 160)


def test_the_steps_of_a_log_tell_how_far_a_training_is(progress, clock, tmp_path):
    log = tmp_path / "xunet.log"
    progress.start(1)
    progress.end(1)
    progress.start(2, str(log))
    assert share_of_steps(str(log)) == 0
    log.write_text("INFO step 100/400 loss 1.2\nINFO step 200/400 loss 1.1 eta 3s\n")
    clock.now = 60
    assert progress.share(2) == 0.5
    assert progress.seconds_left() == pytest.approx(60)
    assert progress.names() == "train_model xunet 50%"


def test_a_failed_job_no_longer_runs(progress, clock):
    progress.start(1)
    progress.fail(1)
    assert not progress.running and progress.done_share() == 0


@pytest.mark.parametrize(
    "seconds, text",
    [(1, "10 s"), (44, "40 s"), (58, "1 min"), (3000, "50 min"), (7800, "2 h 10 min")],
)
def test_durations_are_round(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def handler(monkeypatch):
    monkeypatch.delenv(LOG_FILES_ONLY, raising=False)
    common = SimpleNamespace(stdout=False, dryrun=False, nocolor=True)
    registry = LoggerPluginRegistry()
    registry.collect_plugins()
    made = registry.get_plugin("regaze").log_handler(common, None)
    made.setFormatter(DefaultFormatter(show_failed_logs=True))
    made.console = Console(file=io.StringIO(), width=100)
    yield made
    made.close()
    os.environ.pop(LOG_FILES_ONLY, None)


def tell(handler, text="", level=logging.INFO, **event):
    record = logging.LogRecord("snakemake", level, "", 0, text, (), None)
    record.__dict__ |= event
    handler.emit(record)


def shown(handler):
    return handler.console.file.getvalue()


def test_snakemake_finds_it_and_jobs_leave_the_terminal_alone(handler):
    assert isinstance(handler, LogHandler)
    assert os.environ[LOG_FILES_ONLY] == "1"


def test_without_a_terminal_every_job_that_ends_is_a_line(handler):
    tell(handler, "Building DAG of jobs...")
    handler.follow(Plan({0: Job("all", 0), 7: Job("train_model sted", 30)}, slots=2))
    tell(handler, event=LogEvent.JOB_INFO, jobid=7, log=["nowhere.log"])
    tell(handler, event=LogEvent.JOB_FINISHED, job_id=7)
    tell(handler, event=LogEvent.JOB_FINISHED, job_id=0)
    (line,) = shown(handler).splitlines()
    assert "100% of the work, 1 of 2 jobs" in line and "train_model sted took 10 s" in line
    handler.close()
    assert shown(handler).splitlines()[1:] == ["2 jobs done in 10 s"]


def test_warnings_and_errors_are_shown_in_full(handler):
    handler.follow(Plan({7: Job("train_model sted", 30)}))
    tell(handler, "disk [is] full " * 20, logging.WARNING)
    tell(handler, "no such rule", logging.ERROR)
    tell(handler, "Complete log(s): run.log")
    tell(handler, "Select jobs to execute...")
    assert shown(handler).splitlines() == [
        "disk [is] full " * 20,
        "no such rule",
        "Complete log(s): run.log",
    ]


def test_a_terminal_has_one_line(handler):
    handler.console = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True)
    handler.follow(Plan({n: Job(f"train_model model-{n}", 30) for n in range(9)}, slots=9))
    for number in range(9):
        tell(handler, event=LogEvent.JOB_INFO, jobid=number, log=[])
    probe = Console(file=io.StringIO(), width=80)
    probe.print(handler.line())
    (line,) = probe.file.getvalue().splitlines()
    assert "left" in line and "train_model model-0" in line and line.endswith("…")
