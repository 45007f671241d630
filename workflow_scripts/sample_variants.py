"""Redirect pairs with one model in several ways: other guidance weights, steps or samplers."""

from regaze.jobs import folder_of, removed_background, start
from regaze.outputs import several
from regaze.redirectors.inputs import given_inputs, given_view
from regaze.redirectors.sample import sample_variants


def main(job):
    start(job)
    outputs = {name: several(job.output[name]) for name in ("samples", "speed")}
    files = {"faces": job.input.faces, "pairs": job.input.pairs, **job.params.get("pairs", {})}
    files |= given_view(job.input) | {"inputs": given_inputs(job.input)}
    files["size_px"] = job.params.size_px
    files |= removed_background(job)
    folder = folder_of(job, "model")
    sampling, variants = job.params.sampling, job.params.variants
    sample_variants(folder, variants, sampling=sampling, **outputs, **files)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
