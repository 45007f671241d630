"""Draw masks over faces."""

from regaze.faces import FacesReader
from regaze.jobs import start
from regaze.masks import MasksReader
from regaze.masks.sheet import mask_sheet


def main(job):
    start(job)
    faces = FacesReader(job.input.faces)
    mask_sheet(faces, MasksReader(job.input.masks, faces), job.output.sheet)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
