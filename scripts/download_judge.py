"""Rule download_judge: the language model of a judge, with a manifest of what it is."""

from pathlib import Path

from job import Job
from overtrain.hub import sources
from overtrain.hub.download import download_checkpoint
from overtrain.records.provenance import write_json

with Job(snakemake) as job:
    config = job.slice
    judge, folder = job.wildcards.judge, job.output.model
    work = Path("results/state/judges", judge)
    pinned = sources.commits(job.catalogue, "judges", judge).get(f"judges.{judge}")
    manifest = download_checkpoint(
        config["repository"], config["revision"], folder, work, pinned, architectures=None
    )
    write_json(folder / "provenance.json", job.origin({"judge": manifest["sha256"]}))
    print(f"{config['repository']} at {config['revision']}: {manifest['commit'] or 'copied'}")
