"""Redirect the evaluation pairs with one model or pseudo-model."""

from regaze.jobs import folder_of, removed_background, start
from regaze.redirectors.inputs import given_inputs, given_view
from regaze.redirectors.sample import sample_pseudo_model, sample_redirector


def main(job):
    start(job)
    common = {"faces": job.input.faces, "pairs": job.input.pairs, **dict(job.output.items())}
    common["size_px"] = job.params.size_px
    common |= removed_background(job)
    if job.input.get("model"):
        folder = folder_of(job, "model")
        common |= given_view(job.input) | {"inputs": given_inputs(job.input)}
        sample_redirector(folder, sampling=job.params.sampling, **common)
    else:
        sample_pseudo_model(job.params.name, **common)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
