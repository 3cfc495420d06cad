"""Rule download_judge: the language model of a judge, with a manifest of what it is."""

import json
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.hub import sources
from overtrain.hub.download import download_checkpoint
from overtrain.records import job
from overtrain.records.provenance import write_json

with job.logged(snakemake.log[0]):
    config = json.loads(snakemake.params.config)
    judge, folder = snakemake.wildcards.judge, Path(snakemake.output.model)
    work = Path("results/state/judges", judge)
    pinned = sources.commits(catalogue_of(snakemake.config), "judges", judge).get(f"judges.{judge}")
    manifest = download_checkpoint(
        config["repository"], config["revision"], folder, work, pinned, architectures=None
    )
    write_json(folder / "provenance.json", job.origin(snakemake, {"judge": manifest["sha256"]}))
    print(f"{config['repository']} at {config['revision']}: commit {manifest['commit']}")
