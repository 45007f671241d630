"""Write the comparison page."""

from regaze.jobs import start
from regaze.report.stage import dataset_inputs, report_results


def main(job):
    start(job)
    files = {name: job.input[name] for name in ("faces", "pairs", "rejected", "sheets", "masks")}
    report_results(
        *(job.output.page, job.output.table),
        out_study=job.output.study,
        study=job.params.study,
        study_kind=job.params.kind,
        rows=job.params.rows,
        datasets=dataset_inputs(job.params.datasets, background=job.params.background, **files),
        evaluator=job.params.evaluator,
        settings=job.params.settings,
        estimators=job.input.estimators,
        encoders=job.input.encoders,
    )


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
