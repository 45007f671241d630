"""Train one estimator."""

from regaze.jobs import start
from regaze.training.launch import launch
from regaze.training.stages import ModelFiles, train_estimator


def main(job):
    start(job)
    data = {"faces": job.input.faces, "split": job.input.split}
    options = {name: job.params[name] for name in ("name", "config", "seed", "code")}
    train_estimator(**options, **data, files=ModelFiles.of_job(job))


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
