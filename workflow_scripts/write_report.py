"""Write the comparison page."""

from regaze.jobs import start
from regaze.report.stage import write_run


def main(job):
    start(job)
    write_run(dict(job.input.items()), dict(job.params.items()), **dict(job.output.items()))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
