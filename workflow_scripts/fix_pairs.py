"""Draw the evaluation pairs of one data set."""

from regaze.jobs import start
from regaze.pairs import fix_pairs


def main(job):
    log = start(job)
    files = {"albums": job.input.get("albums"), "codes": job.input.get("codes", ())}
    names = ("seed", "dataset", "same_deg", "part", "counts", "coded")
    options = {name: job.params[name] for name in names}
    counts = fix_pairs(job.input.faces, job.input.split, job.output.pairs, **files, **options)
    log.info("pairs per kind: %s", counts)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
