"""Check a data set's split and complete it."""

from regaze.jobs import start
from regaze.sources.splits import make_split


def main(job):
    log = start(job)
    root, given = job.input.root, job.input.get("split") or None
    split = make_split(job.output.split, root=root, split_file=given, seed=job.params.seed)
    log.info("persons: %s", {name: len(persons) for name, persons in split.items()})


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
