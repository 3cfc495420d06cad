"""Rule build_corpus: token shards of embedded docstrings or of a hub data set."""

import json
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.data import corpora
from overtrain.hub import sources
from overtrain.records import job

with job.logged(snakemake.log[0]):
    config = json.loads(snakemake.params.config)
    folder = Path(snakemake.output.corpus)
    if config["kind"] == "docstrings":
        manifest = corpora.build_from_docstrings(config, folder, snakemake.threads)
    else:
        config = sources.pin(
            catalogue_of(snakemake.config), "corpora", snakemake.wildcards.corpus, config
        )
        work = folder.with_name(f"{folder.name}.work")
        manifest = corpora.build_from_hub(config, folder, work, snakemake.threads)
    origin = job.origin(snakemake, {"corpus": manifest["sha256"]})
    corpora.write_json(folder / "provenance.json", origin)
    for split, content in manifest["splits"].items():
        print(f"{split}: {content['tokens']:,} tokens in {content['documents']:,} documents")
