"""Rule publish_checkpoint: a checkpoint trained here as a revision of a repository in a folder."""

from pathlib import Path

from overtrain import job
from overtrain.provenance import sha256, write_json
from overtrain.publish import publish

with job.logged(snakemake.log[0]):
    checkpoint = Path(snakemake.input.checkpoint)
    publish(checkpoint, Path(snakemake.output.revision))
    origin = job.origin(snakemake, {"checkpoint": sha256(checkpoint / "model.safetensors")})
    write_json(Path(snakemake.output.provenance), origin)
