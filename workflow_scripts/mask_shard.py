"""Masks of one shard: head, eyes and parts."""

from regaze.jobs import start
from regaze.masks.stage import make_masks


def main(job):
    log = start(job)
    options = dict(job.params.options)
    if "source" in options:
        options["source"] = {**options["source"], "root": job.input.root}
    options |= {name: job.input.get(name) for name in ("latents", "head", "parsing")}
    rows = make_masks(job.input.faces, job.output.masks, job.params.method, **options)
    log.info("rows with masks: %d", rows)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
