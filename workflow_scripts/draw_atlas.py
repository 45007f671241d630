"""Draw evaluated persons for a grid of gaze directions, as a page."""

from regaze.jobs import folder_of, start
from regaze.outputs import several
from regaze.page.stage import write_atlas


def main(job):
    start(job)
    write_atlas(
        job.output.page,
        folder_of(job, "model"),
        faces=several(job.input.faces),
        pairs=job.input.pairs,
        estimator=folder_of(job, "estimator"),
        sampling=job.params.sampling,
        persons=job.params.persons,
    )


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
