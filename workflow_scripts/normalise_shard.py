"""Normalise one shard of persons."""

from regaze.jobs import start
from regaze.normalise.stage import make_faces


def main(job):
    log = start(job)
    counts = make_faces(
        dict(job.params.source) | {"root": job.input.root},
        job.output.faces,
        job.output.rejected,
        shard=int(job.wildcards.shard),
        shards=job.params.shards,
        persons=job.params.raw and job.params.raw["persons"],
        poses=job.input.get("poses"),
        landmarks=job.input.get("found"),
        threads=job.threads,
        **job.params.faces,
    )
    log.info("rows: %s", counts)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
