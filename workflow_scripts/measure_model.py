"""Measure the samples of one model, or those of several of its variants one after the other."""

import torch

from regaze.jobs import folder_of, removed_background, start
from regaze.metrics.measure import measure_files


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    data = (job.input.samples, job.input.pairs, job.input.faces, folder_of(job, "estimator"))
    options = {name: job.params[name] for name in ("seed", "resamples", "assets")}
    options |= {"perturbed": job.input.get("perturbed"), "identity": folder_of(job, "identity")}
    if encoder := folder_of(job, "encoder"):
        weights = job.params.published or {"folder": encoder}
        options["encoder"] = {"head": job.input.head, **weights}
    measure_files(*data, **dict(job.output.items()), **options, **removed_background(job))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
