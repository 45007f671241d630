"""Render the photos of one synthetic data set."""

from regaze.capture import render_capture
from regaze.jobs import start


def main(job):
    start(job)
    options = dict(job.params.capture)
    persons = {name.replace("_", "-"): n for name, n in options.pop("persons").items()}
    root, seed, workers = job.output.root, job.params.seed, job.threads
    render_capture(root, persons=persons, seed=seed, workers=workers, **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
