"""Train one estimator."""

from regaze.jobs import start
from regaze.training.stages import train_estimator


def main(job):
    start(job)
    data = {"faces": job.input.faces, "split": job.input.split}
    options = {name: job.params[name] for name in ("name", "config", "seed", "state")}
    train_estimator(**options, **data, **dict(job.output.items()))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
