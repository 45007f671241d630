"""Measure the samples of one model, or those of several of its variants one after the other."""

import torch

from regaze.jobs import coder_of, folder_of, removed_background, start
from regaze.metrics.measure import measure_files


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    data = (job.input.samples, job.input.pairs, job.input.faces, folder_of(job, "estimator"))
    options = {name: job.params[name] for name in ("seed", "resamples", "assets")}
    options |= {"perturbed": job.input.get("perturbed"), "identity": folder_of(job, "identity")}
    options |= {**coder_of(job), **removed_background(job)}
    measure_files(*data, **dict(job.output.items()), **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
