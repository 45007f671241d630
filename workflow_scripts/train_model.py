"""Train one redirector."""

from regaze.jobs import start
from regaze.training.launch import launch
from regaze.training.stages import ModelFiles, train_redirector


def main(job):
    start(job)
    data = {"faces": job.input.faces, "split": job.input.split}
    options = {name: job.params[name] for name in ("name", "config", "seed")}
    train_redirector(**options, **data, files=ModelFiles.of_job(job))


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
