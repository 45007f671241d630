"""One record and one curve of all models of an entry that has one per person."""

from regaze.jobs import start
from regaze.outputs import several
from regaze.redirectors.personal import gather_albums


def main(job):
    log = start(job)
    models = several(job.input.models)
    persons = gather_albums(job.params.name, models, job.output.record, job.output.curve)
    log.info("models of %d persons", len(persons))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
