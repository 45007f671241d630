"""What SLURM may do to a job: preempted, requeued, cancelled, not answered for, refused.

The jobs of states.smk are disturbed while the tools of SLURM fail for some seconds, asked through
profiles/slurm and, as there is no accounting, in vain by ``sacct``. Beside it two workflows have
a job that fails at once, on a partition of ten minutes.
"""

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest
from cluster import Cluster, Started, missing, of_rule
from running import ROOT

HERE = ROOT / "tests/workflow/slurm"
PROFILE = ROOT / "profiles/slurm"
QUICK = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "5")
SHORT = "{{partition: short, rules: {{render_capture: {{mem_mb: 500, runtime: 8}}}}{}}}"
LONGEST_S = 300
NAMES = ("preempted", "requeued", "cancelled", "undisturbed")

absent = missing()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(absent), reason=f"NO SLURM HERE: missing {'; '.join(absent)}"),
]


def disturb(cluster, states):
    """Wait for the first jobs, let SLURM be silent until Snakemake has asked, then disturb."""
    folder = states.log.parent
    begun = time.monotonic()
    while not all((folder / f"{name}.started").exists() for name in NAMES):
        assert states.process.poll() is None and time.monotonic() - begun < LONGEST_S, states.output
        time.sleep(0.2)
    cluster.silent.touch()
    silence = time.monotonic()
    while "does not answer" not in states.output and time.monotonic() - silence < 60:
        time.sleep(0.2)
    cluster.silent.unlink()
    for node in ("n1", "n2"):
        urgent = ("--partition=urgent", f"--nodelist={node}", "--mem=12000", "--output=/dev/null")
        cluster.run("sbatch", *urgent, "--wrap=true")
    (job,) = of_rule(cluster.jobs(), folder, "wildcards_cancelled")
    cluster.run("scancel", job["id"])
    # SLURM lets a job rest for two minutes before it runs again.
    while job["state"] != "PENDING" and time.monotonic() - begun < LONGEST_S:
        time.sleep(0.2)
        (job,) = of_rule(cluster.jobs(), folder, "wildcards_requeued")
    cluster.run("scontrol", "update", f"JobId={job['id']}", "StartTime=now")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    root = tmp_path_factory.mktemp("states")
    cluster = Cluster(root / "cluster")
    runs = {}
    begun = time.monotonic()
    try:
        cluster.up()
        runs["states"] = Started(
            *(cluster, root / "states", PROFILE, *QUICK, "--slurm-status-command", "sacct"),
            snakefile=HERE / "states.smk",
        )
        for name, limit in (("capped", ", max_runtime: 10"), ("uncapped", "")):
            # What should be a folder is a file.
            (root / name / "benchmarks").mkdir(parents=True)
            (root / name / "benchmarks/rules").touch()
            change = ("--config", "capture={threads: 1}", f"resources={SHORT.format(limit)}")
            runs[name] = Started(
                *(cluster, root / name, PROFILE, *QUICK, *change, "--", "results/synthetic/capture")
            )
        disturb(cluster, runs["states"])
        while any(run.process.poll() is None for run in runs.values()):
            if time.monotonic() - begun > LONGEST_S:
                break
            time.sleep(0.3)
        jobs = cluster.jobs()
        restarts = cluster.run("scontrol", "-o", "show", "jobs")
    finally:
        cluster.silent.unlink(missing_ok=True)
        cluster.end(runs.values())
    print(f"{time.monotonic() - begun:.0f} s on SLURM")
    return SimpleNamespace(root=root, jobs=jobs, restarts=restarts, **runs)


def states_of(ran, name):
    jobs = of_rule(ran.jobs, ran.root / "states", f"wildcards_{name}")
    return [job["state"] for job in jobs]


@pytest.mark.whole
def test_silence_of_the_controller_and_of_the_database_is_outlived(ran):
    assert "SLURM does not answer" in ran.states.output
    assert ran.states.process.returncode == 0, ran.states.output[-4000:]
    assert all((ran.root / f"states/{name}.done").exists() for name in NAMES)


@pytest.mark.whole
def test_a_preempted_job_is_submitted_again_unless_slurm_does_it(ran):
    assert states_of(ran, "preempted") == ["PREEMPTED", "COMPLETED"], ran.states.output[-4000:]
    (first, _) = of_rule(ran.jobs, ran.root / "states", "wildcards_preempted")
    assert f"SLURM preempted job {first['id']}" in ran.states.output
    assert states_of(ran, "requeued") == ["COMPLETED"]
    (job,) = of_rule(ran.jobs, ran.root / "states", "wildcards_requeued")
    (shown,) = [line for line in ran.restarts.splitlines() if f"JobId={job['id']} " in line]
    assert "Restarts=1" in shown


@pytest.mark.whole
def test_a_cancelled_job_is_submitted_again(ran):
    assert states_of(ran, "cancelled") == ["CANCELLED", "COMPLETED"]


@pytest.mark.whole
def test_retries_stop_at_the_time_that_the_partition_allows(ran):
    tries = of_rule(ran.jobs, ran.root / "capped", "render_capture")
    assert [job["limit"] for job in tries] == ["8:00", "10:00", "10:00"], ran.capped.output
    assert [job["memory"] for job in tries] == ["500M", "1000M", "1500M"]
    assert "asks for" not in ran.capped.output


@pytest.mark.whole
def test_retries_that_the_partition_will_refuse_are_told_before_any_job(ran):
    tries = of_rule(ran.jobs, ran.root / "uncapped", "render_capture")
    assert [job["limit"] for job in tries] == ["8:00"]
    told = (
        "attempt 2 of render_capture asks for 16 minutes, more than the 10 of partition short: "
        "SLURM will refuse it, or let it wait for ever; set resources.max_runtime: 10"
    )
    output = ran.uncapped.output
    assert output.index(told) < output.index("has been submitted")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        *((state, "failed") for state in ("BOOT_FAIL", "CANCELLED", "CANCELLED by 1000")),
        *((state, "failed") for state in ("DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY")),
        *((state, "failed") for state in ("PREEMPTED", "TIMEOUT")),
        *((state, "kept") for state in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING")),
        *((state, "kept") for state in ("CONFIGURING", "STOPPED", "REQUEUE_HOLD")),
        ("COMPLETED", "succeeded"),
        (None, "kept"),
    ],
)
def test_every_state_ends_in_what_the_executor_knows(state, expected, monkeypatch):
    import snakemake_executor_plugin_slurm as plugin

    from regaze.slurm import Answers

    async def ask(command, logger):
        return (None, None) if state is None else ({"7": state}, 0.0)

    logger = logging.getLogger("test")
    answers = Answers(ask, plugin.query_job_status_squeue, logger)
    monkeypatch.setattr(plugin, "query_job_status", answers)
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: 300)
    monkeypatch.setattr(plugin, "is_query_tool_available", lambda name: False)
    settings = plugin.ExecutorSettings(status_command="squeue", keep_successful_logs=True)
    executor = plugin.Executor.__new__(plugin.Executor)
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.logger, executor.run_uuid = logger, "run"
    executor._next_seconds_between_status_checks = 5
    executor._preemption_warning, executor._failed_nodes = False, set()
    executor._status_query_calls = executor._status_query_failures = 0
    executor._status_query_total_seconds = executor._status_query_max_seconds = 0.0
    executor._status_query_min_seconds, executor._status_query_cycle_rows = None, []
    executor.status_rate_limiter = asyncio.Semaphore()
    job = SimpleNamespace(external_jobid="7", aux={})
    ended = []
    executor.report_job_success = lambda job: ended.append("succeeded")
    executor.report_job_error = lambda job, **more: ended.append("failed")

    async def round_of_questions():
        return ["kept" async for _ in executor.check_active_jobs([job])]

    assert asyncio.run(round_of_questions()) + ended == [expected]
