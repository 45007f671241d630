"""Measure the samples of one model, or those of several of its variants one after the other."""

from pathlib import Path

import torch

from regaze.jobs import removed_background, start
from regaze.metrics.measure import measure_files


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    data = (job.input.pairs, job.input.faces, Path(job.input.estimator).parent)
    options = {name: job.params[name] for name in ("seed", "resamples", "assets")}
    options["perturbed"] = job.input.get("perturbed")
    if job.input.get("identity"):
        options["identity"] = Path(job.input.identity).parent
    if job.input.get("encoder"):
        trained = {"folder": Path(job.input.encoder[0]).parent}
        options["encoder"] = {"head": job.input.head, **(job.params.published or trained)}
    options |= removed_background(job)
    measure_files(job.input.samples, *data, **dict(job.output.items()), **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
