"""Rule publish_checkpoint: a checkpoint trained here as a revision of a repository in a folder."""

from job import Job
from overtrain.hub.stand_ins import publish
from overtrain.records.provenance import sha256, write_json

with Job(snakemake) as job:
    checkpoint = job.input.checkpoint
    publish(checkpoint, job.output.revision)
    origin = job.origin({"checkpoint": sha256(checkpoint / "model.safetensors")})
    write_json(job.output.provenance, origin)
