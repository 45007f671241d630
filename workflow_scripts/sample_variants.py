"""Redirect pairs with one model in several ways: other guidance weights, steps or samplers."""

from pathlib import Path

from regaze.jobs import removed_background, start
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
    folder = Path(job.input.model).parent
    sampling, variants = job.params.sampling, job.params.variants
    sample_variants(folder, variants, sampling=sampling, **outputs, **files)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
