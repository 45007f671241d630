"""Normalise one shard of persons."""

from regaze.jobs import start
from regaze.normalise.pipeline import normalise_shard
from regaze.sources import open_source
from regaze.sources.splits import deal


def main(job):
    log = start(job)
    root, supplementary = job.input.root, job.input.get("supplementary")
    source = open_source(job.params.source, root, supplementary=supplementary)
    persons = deal(source.persons, job.params.shards)[int(job.wildcards.shard)]
    out = (job.output.faces, job.output.rejected)
    options = {"undistort_camera": job.params.undistort_camera, **job.params.faces}
    counts = normalise_shard(source, persons, *out, threads=job.threads, **options)
    log.info("%d persons: %s", len(persons), counts)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
