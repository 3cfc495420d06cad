"""Rule publish_checkpoint: a checkpoint trained here as a revision of a repository in a folder."""

from pathlib import Path

from overtrain.hub.stand_ins import publish
from overtrain.records import job
from overtrain.records.provenance import sha256, write_json

with job.logged(snakemake.log[0]):
    checkpoint = Path(snakemake.input.checkpoint)
    publish(checkpoint, Path(snakemake.output.revision))
    origin = job.origin(snakemake, {"checkpoint": sha256(checkpoint / "model.safetensors")})
    write_json(Path(snakemake.output.provenance), origin)
