"""What an inverter loses of unseen people, and what it draws of chance."""

import torch

from regaze.jobs import folder_of, removed_background, start
from regaze.metrics.generated import measure_inverter
from regaze.metrics.inverted import InvertedFaces


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    inverter = folder_of(job, "inverter")
    seen = InvertedFaces(list(job.input.faces), inverter, **removed_background(job))
    options = {"persons": job.params.persons, "seed": job.params.seed, **dict(job.output.items())}
    measure_inverter(seen, job.input.split, folder_of(job, "estimator"), **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
