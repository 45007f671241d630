"""Render the photos of one synthetic data set."""

import numpy as np

from regaze.capture import render_capture
from regaze.jobs import start


def main(job):
    start(job)
    options = dict(job.params.capture)
    angles = {
        key.removesuffix("_deg"): np.deg2rad(options.pop(key))
        for key in list(options)
        if key.endswith("_deg")
    }
    options["persons"] = {k.replace("_", "-"): v for k, v in options["persons"].items()}
    render_capture(job.output.root, **options, **angles, seed=job.params.seed, workers=job.threads)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
