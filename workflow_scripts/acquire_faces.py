"""3-D faces of the user's photos."""

import numpy as np

from regaze.face3d.acquire import acquire
from regaze.face3d.encode import open_encoder
from regaze.jobs import start
from regaze.landmarks.detectors import open_detector
from regaze.landmarks.settings import WEIGHTS
from regaze.outputs import replacing


def main(job):
    start(job)
    weights = {key: job.input[key] for key in ("deca", "emoca") if job.input.get(key)}
    weights = weights | job.params.stated or {"folder": job.params.folder}
    device, threads = job.resources.device, job.threads
    encoder = open_encoder(job.input.head, device=device, threads=threads, **weights)
    find = None
    if job.params.detector is not None:
        files = {name: job.input[name] for name in WEIGHTS if job.input.get(name)}
        find = open_detector(weights=files, device=device, **job.params.detector).all_faces
    options = dict(job.params.options)
    options["gaze"] = options["gaze"] and np.radians(options["gaze"])
    with replacing(job.output.faces) as out:
        acquire([job.input.photos], encoder, out, find=find, **options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
