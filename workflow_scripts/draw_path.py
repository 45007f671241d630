"""Animate how the first pictures of one model come out of the noise."""

from regaze.factors import GAZE_AND_HEAD
from regaze.jobs import folder_of, removed_background, start
from regaze.redirectors.inputs import given_inputs, given_view
from regaze.redirectors.sample import sample_redirector


def main(job):
    start(job)
    files = {"faces": job.input.faces, "pairs": job.input.pairs, "sampling": job.params.sampling}
    files |= given_view(job.input) | {"inputs": given_inputs(job.input), "kind": GAZE_AND_HEAD}
    files |= removed_background(job)
    folder = folder_of(job, "model")
    sample_redirector(folder, samples=None, speed=None, gif=job.output.path, **files)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
