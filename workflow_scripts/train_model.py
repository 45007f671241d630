"""Train one redirector."""

from regaze.jobs import start
from regaze.training.launch import launch
from regaze.training.stages import ModelFiles, TrainingData, train_redirector


def main(job):
    start(job)
    options = {name: job.params[name] for name in ("name", "config", "seed", "code")}
    train_redirector(**options, data=TrainingData.of_job(job), files=ModelFiles.of_job(job))


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
