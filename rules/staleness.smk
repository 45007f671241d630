"""What Snakemake overlooks: the library's code, missing files in the middle, swapped values."""

import json
from functools import cache
from hashlib import sha256
from os.path import basename, exists

from regaze.versioning.code import reached_version
from regaze.versioning.picks import picks


def ask_for_all_before(stage):
    """Have a stage's target also ask for everything that is made on the way to its files.

    Snakemake says nothing of a file that is missing while what was made from it is up to date, and
    it deletes the outputs of a job that fails together with its memory of them. Asked for its last
    files alone, it would forget a training that was killed and keep the page from before.

    Jobs whose own raw files are gone are left out: results may stand without their photos.
    """
    last = [*stage.input]

    def made_on_the_way(wildcards):
        allowed = workflow.dag_settings.allowed_rules
        makers = [one for one in workflow.rules if not allowed or one.name in allowed]

        @cache
        def maker(path):
            return next((one for one in makers if one.is_producer(path)), None)

        todo, jobs, found = [*last], set(), []
        while todo:
            path = todo.pop()
            if (one := maker(path)) is None:
                continue
            values = one.get_wildcards(path)
            if (job := (one, *sorted(values.items()))) in jobs:
                continue
            jobs.add(job)
            given = one.expand_input(values)[0]
            todo += given
            if all(maker(path) or exists(path) for path in given):
                found += one.expand_output(values)[0]
        return found

    stage.set_input(made_on_the_way)


def watch_code(job):
    """Give a rule a parameter that is the version of all code that its script can reach."""
    script = f"{workflow.basedir}/workflow_scripts/{basename(job.script)}"
    job.set_params(
        code=lambda wildcards: reached_version(
            script, picks(settings, job.name, dict(wildcards.items()))
        )
    )


def compare_whole(job):
    """Give a rule a parameter that tells all its values and inputs, each with its name.

    Snakemake compares parameters and inputs as sets of texts: values that changed places, and one
    that now equals another, look as before, as do values of types that it cannot print.

    Raises:
        TypeError: when jobs are planned, for a value that is no plain one, or a function of more
            than wildcards, which Snakemake would not compare at all.
    """
    params = dict(job.params.items())

    def whole(wildcards):
        values = {
            name: value(wildcards) if callable(value) else value
            for name, value in params.items()
        }
        inputs = dict(job.expand_input(dict(wildcards.items()))[0].items())
        return sha256(json.dumps([values, inputs]).encode()).hexdigest()[:16]

    job.set_params(whole=whole)
