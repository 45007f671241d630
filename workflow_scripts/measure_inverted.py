"""Measure the samples of one model against inversions of the true pictures."""

import torch

from regaze.jobs import coder_of, folder_of, removed_background, start
from regaze.metrics.inverted import InvertedFaces
from regaze.metrics.measure import measure_files


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    faces, inverter = list(job.input.faces), folder_of(job, "inverter")
    options = {name: job.params[name] for name in ("seed", "resamples", "assets")}
    options["inversions"] = InvertedFaces(faces, inverter, **removed_background(job))
    options |= {"identity": folder_of(job, "identity"), **coder_of(job)}
    data = (job.input.samples, job.input.pairs, faces, folder_of(job, "estimator"))
    measure_files(*data, **dict(job.output.items()), **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
