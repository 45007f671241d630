"""Measure the samples of one model against inversions of the true pictures."""

from pathlib import Path

import torch

from regaze.jobs import removed_background, start
from regaze.metrics.inverted import InvertedFaces
from regaze.metrics.measure import measure_files


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    masked = removed_background(job)
    inverter = Path(job.input.inverter).parent
    seen = InvertedFaces(
        list(job.input.faces), inverter, masked.get("masks"), masked.get("background", (0, 0, 0))
    )
    data = (job.input.pairs, job.input.faces, Path(job.input.estimator).parent)
    options = {name: job.params[name] for name in ("seed", "resamples", "assets")}
    if job.input.get("identity"):
        options["identity"] = Path(job.input.identity).parent
    measure_files(job.input.samples, *data, **dict(job.output.items()), **options, inversions=seen)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
