"""Draw the evaluation pairs of one data set."""

import json
from pathlib import Path

from regaze.albums import read_albums
from regaze.faces import FacesReader
from regaze.factors import factors_named
from regaze.jobs import start
from regaze.pairs import draw_pairs, write_pairs


def main(job):
    log = start(job)
    persons = json.loads(Path(job.input.split).read_text())[job.params.split]
    reader = FacesReader(job.input.faces)
    options = {name: job.params[name] for name in ("seed", "dataset", "same_deg")}
    options["albums"] = read_albums(job.input.get("albums"))
    options |= {"factors": factors_named(job.params.coded), "codes": job.input.get("codes", ())}
    pairs = draw_pairs(reader, persons, job.params.counts, **options)
    write_pairs(job.output.pairs, pairs)
    log.info("pairs per kind: %s", pairs["kind"].value_counts().to_dict())


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
