"""Check the share of rejected rows of a data set and draw its contact sheet."""

from regaze.faces import FacesReader
from regaze.jobs import start
from regaze.normalise.contact_sheet import contact_sheet
from regaze.normalise.rejections import gather_rejected


def main(job):
    log = start(job)
    counts = gather_rejected(
        *(job.input.rejected, None, job.output.rejected),
        **job.params.limits,
        left_out=job.params.raw and job.params.raw["left_out"],
    )
    log.info("rows: %s", counts)
    contact_sheet(FacesReader(job.input.faces), job.output.sheet)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
