"""Train one estimator."""

from regaze.jobs import start
from regaze.training.stages import train_estimator


def main(job):
    start(job)
    train_estimator(
        job.params.name,
        job.params.config,
        faces=job.input.faces,
        split=job.input.split,
        seed=job.params.seed,
        model=job.output.model,
        record=job.output.record,
        curve=job.output.curve,
        state=job.params.state,
    )


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
