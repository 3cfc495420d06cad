"""Rule download_encoder: the vision half of a CLIP model, with a manifest of what it is."""

from job import STATE, Job
from overtrain.hub import sources
from overtrain.hub.encoders import download_encoder
from overtrain.records.provenance import write_json

with Job(snakemake) as job:
    config, encoder, folder = job.slice, job.wildcards.encoder, job.output.encoder
    pinned = sources.commits(job.catalogue, "encoders", encoder).get(f"encoders.{encoder}")
    place = (config["repository"], config["revision"], folder, STATE / "encoders" / encoder)
    manifest = download_encoder(*place, pinned)
    write_json(folder / "provenance.json", job.origin({"encoder": manifest["sha256"]}))
    print(f"{config['repository']} at {config['revision']}: {manifest['commit'] or 'copied'}")
