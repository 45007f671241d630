"""Write augmented faces as ST-ED's code reads them."""

from regaze.few_labels.files import export_upstream
from regaze.jobs import start


def main(job):
    start(job)
    export_upstream(job.input.faces, job.output.samples)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
