"""Draw the albums of the persons of one data set who are evaluated."""

import json
from pathlib import Path

from regaze.albums import draw_albums, write_albums
from regaze.faces import FacesReader
from regaze.jobs import start


def main(job):
    log = start(job)
    persons = json.loads(Path(job.input.split).read_text())[job.params.split]
    options = {name: job.params[name] for name in ("size", "people", "seed", "dataset")}
    albums = draw_albums(FacesReader(job.input.faces), persons, **options)
    write_albums(job.output.albums, albums)
    log.info("%d albums of %d pictures", len(albums), job.params["size"])


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
