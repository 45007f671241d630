"""3-D face codes of one shard."""

from regaze.face3d.encode import encode_shard, open_encoder
from regaze.jobs import given, start


def main(job):
    log = start(job)
    weights = given(job, ("deca", "emoca")) | job.params.stated or {"folder": job.params.folder}
    device, threads = job.resources.device, job.threads
    encoder = open_encoder(job.input.head, device=device, threads=threads, **weights)
    counts = encode_shard(job.input.faces, encoder, job.output.latents)
    log.info("rows: %s", counts)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
