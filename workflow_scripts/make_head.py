"""Make, or check and copy, the head model that everything in 3-D shares."""

from regaze.capture.head_stage import make_head
from regaze.jobs import start


def main(job):
    start(job)
    make_head(job.params.head_model, job.output.head)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
