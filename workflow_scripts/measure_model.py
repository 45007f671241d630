"""Measure the samples of one model, or those of several of its variants one after the other."""

from pathlib import Path

import torch

from regaze.jobs import several, start
from regaze.metrics.measure import measure_samples, write_metrics, write_per_pair


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    common = (job.input.pairs, job.input.faces, Path(job.input.estimator).parent)
    options = {"seed": job.params.seed, "resamples": job.params.resamples}
    if job.input.get("masks"):
        options |= {"masks": several(job.input.masks), "background": job.params.background}
    outputs = (several(job.output.metrics), several(job.output.per_pair))
    for samples, *files in zip(several(job.input.samples), *outputs, strict=True):
        metrics, per_pair = measure_samples(samples, *common, **options)
        write_metrics(files[0], metrics)
        write_per_pair(files[1], per_pair)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
