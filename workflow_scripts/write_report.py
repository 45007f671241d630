"""Write the comparison page."""

from regaze.jobs import start
from regaze.report.stage import report_results


def main(job):
    start(job)
    report_results(
        job.output.page,
        job.output.table,
        rows=job.params.rows,
        dataset=job.params.dataset,
        evaluator=job.params.evaluator,
        settings=job.params.settings,
        estimators=job.input.estimators,
        faces=job.input.faces,
        pairs=job.input.pairs,
        rejected=job.input.rejected,
        contact_sheet=job.input.sheet,
    )


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
