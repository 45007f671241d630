"""3-D faces of the user's photos."""

from regaze.face3d.acquire import acquire
from regaze.face3d.encode import open_encoder
from regaze.jobs import given, start
from regaze.landmarks.detectors import open_detector
from regaze.landmarks.settings import WEIGHTS
from regaze.outputs import replacing


def main(job):
    start(job)
    weights = given(job, ("deca", "emoca")) | job.params.stated or {"folder": job.params.folder}
    device, threads = job.resources.device, job.threads
    encoder = open_encoder(job.input.head, device=device, threads=threads, **weights)
    find = None
    if job.params.detector is not None:
        detector = open_detector(weights=given(job, WEIGHTS), device=device, **job.params.detector)
        find = detector.all_faces
    with replacing(job.output.faces) as out:
        acquire([job.input.photos], encoder, out, find=find, **job.params.options)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
