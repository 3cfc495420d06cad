"""Rule download_checkpoint: one revision of a released model, with a manifest of what it is."""

import json
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.hub import sources
from overtrain.hub.download import download_checkpoint
from overtrain.records import job
from overtrain.records.provenance import write_json

with job.logged(snakemake.log[0]):
    config = json.loads(snakemake.params.config)
    folder = Path(snakemake.output.checkpoint)
    work = Path("results/state", "download", snakemake.wildcards.model, folder.name)
    key = f"models.{snakemake.wildcards.model}.hub.checkpoints.{folder.name}"
    model = snakemake.wildcards.model
    pinned = sources.commits(catalogue_of(snakemake.config), "models", model, only=key).get(key)
    manifest = download_checkpoint(config["repository"], config["revision"], folder, work, pinned)
    origin = job.origin(snakemake, {"checkpoint": manifest["sha256"]})
    write_json(folder / "provenance.json", origin)
    print(f"{config['repository']} at {config['revision']}: commit {manifest['commit']}")
