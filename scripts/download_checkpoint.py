"""Rule download_checkpoint: one revision of a released model, with a manifest of what it is."""

from pathlib import Path

from job import Job
from overtrain.hub import sources
from overtrain.hub.download import download_checkpoint
from overtrain.records.provenance import write_json

with Job(snakemake) as job:
    config = job.slice
    folder = job.output.checkpoint
    work = Path("results/state", "download", job.wildcards.model, folder.name)
    key = f"models.{job.wildcards.model}.hub.checkpoints.{folder.name}"
    model = job.wildcards.model
    pinned = sources.commits(job.catalogue, "models", model, only=key).get(key)
    manifest = download_checkpoint(config["repository"], config["revision"], folder, work, pinned)
    origin = job.origin({"checkpoint": manifest["sha256"]})
    write_json(folder / "provenance.json", origin)
    print(f"{config['repository']} at {config['revision']}: {manifest['commit'] or 'copied'}")
