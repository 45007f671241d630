"""Download weights and verify them."""

from regaze.assets import fetch
from regaze.jobs import start


def main(job):
    log = start(job)
    for name, path in job.output.items():
        log.info("%s: %s", name, fetch(name, path))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
