"""Normalise one shard of persons."""

from regaze.jobs import start
from regaze.normalise.pipeline import normalise_shard
from regaze.sources import open_source
from regaze.sources.splits import deal


def main(job):
    log = start(job)
    paths = {"supplementary": job.input.get("supplementary")}
    source = open_source(job.params.source, job.input.root, **paths)
    persons = deal(source.persons, job.params.shards)[int(job.wildcards.shard)]
    counts = normalise_shard(
        source,
        persons,
        job.output.faces,
        job.output.rejected,
        undistort_camera=job.params.undistort_camera,
        threads=job.threads,
        **job.params.faces,
    )
    log.info("%d persons: %s", len(persons), counts)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
