"""Head poses and gaze targets of one shard of persons."""

from regaze.jobs import start
from regaze.landmarks.stage import make_poses


def main(job):
    log = start(job)
    counts = make_poses(
        dict(job.params.source) | {"root": job.input.root},
        job.output.poses,
        shard=int(job.wildcards.shard),
        shards=job.params.shards,
        persons=job.params.raw and job.params.raw["persons"],
        landmarks=job.input.get("found"),
        min_score=job.params.min_score,
    )
    log.info("photos: %s", counts)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
