"""Turn gaze, head and other factors of test pictures at random, and read what moves."""

from regaze.jobs import folder_of, removed_background, start
from regaze.metrics.disentanglement import perturb_redirector
from regaze.redirectors.inputs import given_inputs, given_view


def main(job):
    start(job)
    names = ("persons", "dataset", "sampling", "size_px", "pictures", "seed")
    given = {name: job.params[name] for name in names} | given_view(job.input)
    given["inputs"] = given_inputs(job.input)
    given |= {"faces": job.input.faces, "split": job.input.split}
    given["albums"] = job.input.get("albums")
    given |= removed_background(job)
    given |= {"estimator": folder_of(job, "estimator"), "output": job.output[0]}
    perturb_redirector(folder_of(job, "model"), **given)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
