"""Find the landmarks of one shard of persons."""

from regaze.jobs import given, start
from regaze.landmarks.settings import WEIGHTS
from regaze.landmarks.stage import make_landmarks


def main(job):
    log = start(job)
    counts = make_landmarks(
        dict(job.params.source) | {"root": job.input.root},
        job.output.landmarks,
        shard=int(job.wildcards.shard),
        shards=job.params.shards,
        persons=job.params.raw and job.params.raw["persons"],
        weights=given(job, WEIGHTS),
        **{name: job.params[name] for name in ("detector", "sha256", "max_side")},
        **{name: job.resources[name] for name in ("device", "batch")},
        threads=job.threads,
    )
    log.info("photos: %s", counts)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
