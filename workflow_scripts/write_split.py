"""Check a data set's split and complete it."""

from pathlib import Path

from regaze.jobs import start, write_json
from regaze.sources.splits import complete_split, read_split


def main(job):
    log = start(job)
    split = read_split(job.input.get("split") or Path(job.input.root) / "split.json")
    split = complete_split(split, job.params.seed)
    write_json(job.output.split, split)
    log.info("persons: %s", {name: len(persons) for name, persons in split.items()})


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
