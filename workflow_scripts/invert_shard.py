"""Inversions of the faces of one shard that somebody learns from."""

import torch

from regaze.jobs import folder_of, start
from regaze.redirectors.inversion.shards import invert_shard


def main(job):
    log = start(job)
    torch.set_num_threads(job.threads)
    folder = folder_of(job, "model")
    rows = invert_shard(job.input.faces, job.input.split, folder, job.output.inversions)
    log.info("rows with inversions: %d", rows)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
