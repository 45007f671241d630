"""Train an estimator of the study of few labels, and measure it."""

from regaze.few_labels.estimator import train_and_measure
from regaze.jobs import start
from regaze.training.launch import launch


def main(job):
    start(job)
    given = dict(job.input.items())
    names = ("name", "config", "seed", "persons", "state", "code")
    train_and_measure(
        **{name: job.params[name] for name in names},
        faces=list(given["faces"]),
        split=str(given["split"]),
        augmented=given.get("augmented") or None,
        **dict(job.output.items()),
    )


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
