"""Train one 3-D face encoder."""

from pathlib import Path

from regaze.jobs import start
from regaze.training.launch import launch
from regaze.training.stages import ModelFiles, train_encoder


def main(job):
    start(job)
    data = {name: job.input[name] for name in ("faces", "split", "head")}
    data["parameters"] = Path(job.input.capture) / "parameters.h5"
    options = {name: job.params[name] for name in ("name", "config", "seed", "code")}
    train_encoder(**options, **data, files=ModelFiles.of_job(job))


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
