"""Animate how the pictures of one model come out of the noise."""

from pathlib import Path

from regaze.jobs import several, start
from regaze.report.paths import path_animation


def main(job):
    start(job)
    files = {"faces": job.input.faces, "pairs": job.input.pairs, "sampling": job.params.sampling}
    files["latents"] = several(job.input.get("latents", []))
    if job.input.get("masks"):
        files |= {"masks": several(job.input.masks), "background": job.params.background}
    path_animation(Path(job.input.model).parent, job.output.path, **files)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
