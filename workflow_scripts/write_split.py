"""Check a data set's split and complete it."""

from regaze.jobs import start
from regaze.normalise.rejections import read_rejected
from regaze.sources import open_source
from regaze.sources.splits import make_split


def main(job):
    log = start(job)
    root, options = job.input.root, dict(job.params.source)
    split = job.input.get("split") or options["split"]
    source = open_source(options | {"root": root, "split": None})
    given = {"root": root, "split": split, "source": source, "seed": job.params.seed}
    given["persons"] = job.params.raw and job.params.raw["persons"]
    given["lost"] = read_rejected(job.input.checked)[1].lost
    lists = make_split(job.output.split, **given, needed=job.resources.needed.split())
    log.info("persons: %s", {name: len(persons) for name, persons in lists.items()})


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
