"""Train the face recogniser, or take over a published one."""

from regaze.identity.stage import make_recogniser
from regaze.jobs import start
from regaze.training.launch import launch
from regaze.training.stages import ModelFiles


def main(job):
    start(job)
    data = {"faces": job.input.faces, "split": job.input.split}
    options = {name: job.params[name] for name in ("config", "seed", "size_px", "code")}
    make_recogniser(**options, **data, files=ModelFiles.of_job(job))


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
