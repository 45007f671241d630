"""The live line of a run, and the order that its jobs are started in."""

from planning import ROOT, configured, loaded
from running import snakemake

from regaze.progress.plan import Plan
from regaze.settings import load_settings

HEAD = "results/face3d/head.npz"


def test_a_run_tells_how_far_it_is_and_nothing_else(tmp_path):
    done = snakemake(tmp_path, "--logger", "regaze", "--", HEAD)
    assert done.returncode == 0, done.output
    lines = [line for line in done.output.splitlines() if line.startswith("[")]
    assert len(lines) == 1 and "100% of the work, 1 of 1 jobs" in lines[0]
    assert "rule make_head" not in done.output and "INFO" not in done.output
    assert "INFO" in (tmp_path / "logs/make_head.log").read_text()
    again = snakemake(tmp_path, "--logger", "regaze", "--", HEAD)
    assert "Nothing to be done" in again.output


def test_what_a_failed_job_said_is_shown(tmp_path):
    (tmp_path / "mine.npz").write_text("no head")
    given = f"capture={{head_model: {tmp_path / 'mine.npz'}}}"
    done = snakemake(tmp_path, "--logger", "regaze", "--config", given, "--", HEAD)
    assert done.returncode != 0
    assert "Error in rule make_head" in done.output and "mine.npz: " in done.output


def test_a_dry_run_is_shown_as_ever(tmp_path):
    done = snakemake(tmp_path, "--logger", "regaze", "-n", "--", HEAD)
    assert "rule make_head" in done.output and "dry-run" in done.output


def test_what_the_longest_chain_waits_for_is_started_first(tmp_path):
    with loaded(tmp_path, {}, (), ROOT / "Snakefile") as workflow:
        plan = Plan.of_workflow(workflow, load_settings(configured()))
        jobs = {plan.jobs[number].name: plan.ranks[number] for number in plan.jobs}
        ordered = sorted(jobs, key=jobs.get, reverse=True)
        assert ordered[0] == "render_capture synthetic" and ordered[-1] == "all"
        # Its model is the longest of those that are trained, and waits for codes.
        assert jobs["train_deca deca"] > jobs["train_model xunet_deca"] > jobs["train_model xunet"]
        workflow.dag.update_priority()
        plan.prioritise(workflow.dag)
        priorities = {
            plan.jobs[workflow.dag.jobid(job)].name: job.priority
            for job in workflow.dag.needrun_jobs()
        }
        # A split that lacks somebody ends the run before any photo is looked at.
        assert max(priorities, key=priorities.get) == "write_split synthetic"
