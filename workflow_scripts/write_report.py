"""Write the comparison page."""

from regaze.jobs import start
from regaze.outputs import several
from regaze.provenance import versions
from regaze.report.inverted import inverted_files
from regaze.report.page import write_report
from regaze.report.stage import dataset_entries, estimator_entries
from regaze.report.studies import StudyEntry


def main(job):
    start(job)
    names = ("faces", "pairs", "rejected", "sheets", "masks")
    datasets = dataset_entries(
        job.params.datasets,
        rows=job.params.rows,
        results="results",
        settings=job.params.settings,
        background=job.params.background,
        **{name: job.input[name] for name in names},
    )
    write_report(
        *(job.output.page, job.output.table),
        datasets,
        estimators=estimator_entries(job.input.estimators, job.params.evaluator),
        encoders=job.input.encoders,
        config=job.params.settings,
        versions=versions(),
        study=[StudyEntry(**entry) for entry in job.params.study],
        study_kind=job.params.kind,
        inverted=inverted_files(job.params.inverted, job.input.get("inverted")),
        inverters=several(job.input.get("inverters") or [])[::2],
        out_study=job.output.study,
    )


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
