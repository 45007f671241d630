"""Masks of one shard: head, eyes and parts."""

from regaze.jobs import start
from regaze.masks.stage import make_masks


def main(job):
    log = start(job)
    source = dict(job.params.source)
    if job.input.get("root"):
        source["root"] = job.input.root
    given = {name: job.input.get(name) for name in ("latents", "head", "parsing")}
    options = {"source": source, "rasterizer": job.params.rasterizer, **given}
    rows = make_masks(job.input.faces, job.output.masks, job.params.method, **options)
    log.info("rows with masks: %d", rows)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
