"""Write the study of few labels: table, figure, page."""

from regaze.few_labels.page import report_study
from regaze.few_labels.study import Measured
from regaze.jobs import start


def main(job):
    start(job)
    options = {name: job.params[name] for name in ("about", "resamples", "seed")}
    report_study([Measured.at(path) for path in job.input.errors], **job.output, **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
