"""Measure the samples of one model."""

from pathlib import Path

import torch

from regaze.jobs import start
from regaze.metrics.measure import measure_samples, write_metrics, write_per_pair


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    estimator = Path(job.input.estimator).parent
    files = (job.input.samples, job.input.pairs, job.input.faces, estimator)
    options = {"seed": job.params.seed, "resamples": job.params.resamples}
    metrics, per_pair = measure_samples(*files, **options)
    write_metrics(job.output.metrics, metrics)
    write_per_pair(job.output.per_pair, per_pair)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
