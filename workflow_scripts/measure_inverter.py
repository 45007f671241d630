"""What an inverter loses of unseen people, and what it draws of chance."""

from pathlib import Path

import torch

from regaze.jobs import removed_background, start
from regaze.metrics.generated import measure_inverter
from regaze.metrics.inverted import InvertedFaces


def main(job):
    start(job)
    torch.set_num_threads(job.threads)
    masked = removed_background(job)
    seen = InvertedFaces(
        list(job.input.faces),
        Path(job.input.inverter).parent,
        masked.get("masks"),
        masked.get("background", (0, 0, 0)),
    )
    options = {"persons": job.params.persons, "seed": job.params.seed, **dict(job.output.items())}
    measure_inverter(seen, job.input.split, Path(job.input.estimator).parent, **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
