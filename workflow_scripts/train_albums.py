"""Train one redirector for every person of a shard, on their albums."""

from regaze.jobs import start
from regaze.redirectors.personal import train_albums
from regaze.redirectors.train import TrainingData
from regaze.training.launch import launch


def main(job):
    start(job)
    names = ("name", "config", "state", "size", "shard", "shards", "seed", "code")
    options = {name: job.params[name] for name in names}
    train_albums(
        albums=job.input["albums"],
        data=TrainingData.of_job(job),
        folder=job.output["models"],
        **options,
    )


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
