"""Render the photos of one synthetic data set."""

from regaze.capture import load_head, render_capture
from regaze.jobs import start


def main(job):
    start(job)
    options = dict(job.params.capture)
    persons = {name.replace("_", "-"): n for name, n in options.pop("persons").items()}
    root, seed, workers = job.output.root, job.params.seed, job.threads
    model = load_head(job.input.head) if job.input.get("head") else None
    render_capture(root, persons=persons, seed=seed, workers=workers, model=model, **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
