"""Plans the workflow many times in this process, against a run that is only pretended.

A pretended run leaves what a real one leaves for Snakemake to compare: every output as a file, and
Snakemake's own records of parameters, inputs and checksums. A plan then costs some tenths of a
second, most of it Snakemake's own jobs.
"""

import contextlib
import copy
import functools
import json
import os
import sys
from pathlib import Path
from unittest import mock

import yaml
from running import ROOT
from snakemake.api import SnakemakeApi, Workflow
from snakemake.common import configfile
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    ExecutionSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from regaze.configfiles import merge
from regaze.versioning import code

# Importing it by name would import it before `snakemake.api`, which it cannot stand.
planner = sys.modules[Workflow.__module__]


def configured(*overlays):
    """The default configuration under overlays, which are YAML."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for above in overlays:
        merge(config, yaml.safe_load(above))
    return config


class Plan:
    """Jobs of a plan by name: the rule and its wildcards, as in ``train_model sted``.

    Attributes:
        inputs, outputs: of every job that the targets need, done or not.
        needed: jobs that Snakemake would run.
        own: jobs that it would run whatever the others do: they lack outputs, or their parameters
            or inputs are not those of their last run.
        after: for every job those that read its outputs.
    """

    def __init__(self, workflow):
        dag, last = workflow.dag, workflow.persistence
        names = {job: self.name(job) for job in dag.jobs}
        self.inputs = {name: [*map(str, job.input)] for job, name in names.items()}
        self.outputs = {name: [*map(str, job.output)] for job, name in names.items()}
        self.needed = {names[job] for job in dag.needrun_jobs()}
        self.own = {
            name
            for job, name in names.items()
            if not all(map(os.path.exists, job.output))
            or last.params_changed(job)
            or any(last.input_changed(job))
        }
        self.after = {
            name: {names[other] for other in dag.depending[job]} for job, name in names.items()
        }

    @staticmethod
    def name(job):
        return " ".join([job.rule.name, *(value for _, value in sorted(job.wildcards.items()))])

    def following(self, jobs):
        """Jobs and all that come after them."""
        found, todo = set(jobs), [*jobs]
        while todo:
            new = self.after[todo.pop()] - found
            found |= new
            todo += new
        return found


@contextlib.contextmanager
def loaded(folder, config, targets, snakefile):
    """The workflow with its jobs planned, in its folder."""
    look_again()
    with contextlib.chdir(folder), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        given = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            # As the command line has it; the interface alone would hand over Python's own words.
            config_settings=ConfigSettings(
                config=config, config_args=[f"{k}={json.dumps(v)}" for k, v in config.items()]
            ),
            snakefile=snakefile,
            workdir=Path(folder),
        )
        given.dag(DAGSettings(targets=set(targets)))
        workflow = given._workflow
        workflow.execution_settings = ExecutionSettings()
        workflow._prepare_dag(
            forceall=False, ignore_incomplete=True, lock_warn_only=False, nolock=True
        )
        workflow._build_dag()
        yield workflow
    # Snakemake keeps it otherwise, with all jobs.
    vars(workflow.dag).clear()
    vars(workflow).clear()


def look_again():
    """Read the library's sources anew, as another process would."""
    code._version.cache_clear()
    code._sources.cache_clear()


def plan(folder, config, targets=(), snakefile=ROOT / "Snakefile"):
    """What Snakemake would do in ``folder`` with ``config`` on top of ``config.yaml``."""
    with loaded(folder, config, targets, snakefile) as workflow:
        return Plan(workflow)


def pretend(folder, config, targets=(), snakefile=ROOT / "Snakefile"):
    """Leave everything behind that a run leaves, but for the contents of its files."""
    with loaded(folder, config, targets, snakefile) as workflow:
        jobs = [job for level in workflow.dag.toposorted() for job in level]
        for path in (Path(path) for job in jobs for path in job.output):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix:
                path.write_text(str(path))
            else:
                path.mkdir(exist_ok=True)
                (path / ".snakemake_timestamp").touch()
        workflow.iocache.clear()
        for job in jobs:
            workflow.async_run(workflow.persistence.finished(job))


@contextlib.contextmanager
def quickly():
    """Sources and ``config.yaml``, which no plan changes, are read once for all plans."""
    compiled, parse = {}, planner.parse
    read = functools.cache(configfile.load_configfile)

    def parse_once(path, workflow, linemap, overwrite_shellcmd=None, rulecount=0):
        key = (path.get_path_or_uri(secret_free=False), rulecount)
        if key not in compiled:
            lines = {}
            compiled[key] = (lines, parse(path, workflow, lines, overwrite_shellcmd, rulecount))
        linemap.update(compiled[key][0])
        return compiled[key][1]

    with (
        mock.patch.object(planner, "parse", parse_once),
        mock.patch.object(configfile, "load_configfile", lambda path: copy.deepcopy(read(path))),
        mock.patch(f"{__name__}.look_again", lambda: None),
    ):
        yield
