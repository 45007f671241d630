"""Redirect the labelled samples to directions drawn from their labels."""

from regaze.few_labels.generate import augment_faces
from regaze.jobs import folder_of, start
from regaze.redirectors.inputs import given_inputs, given_view


def main(job):
    start(job)
    augment_faces(
        folder_of(job, "model"),
        faces=job.input.faces,
        split=job.input.split,
        inputs=given_inputs(job.input),
        labels=job.params.draw,
        output=job.output.faces,
        **given_view(job.input),
        **{name: job.params[name] for name in ("seed", "per_sample", "sampling")},
    )


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
