"""Rule build_corpus: token shards of embedded text, or of a hub data set's parts."""

import shutil

from job import STATE, Job
from overtrain.data import corpora, parts
from overtrain.records.provenance import write_json

with Job(snakemake) as job:
    config, folder = job.slice, job.output.corpus
    if config["kind"] != "hub":
        manifest = corpora.build_from_packages(config, folder, job.threads)
    else:
        manifest = parts.assemble(config, job.input.shards, folder)
    write_json(folder / "provenance.json", job.origin({"corpus": manifest["sha256"]}))
    for split, content in manifest["splits"].items():
        print(f"{split}: {content['tokens']:,} tokens in {content['documents']:,} documents")
    shutil.rmtree(STATE / "shards" / folder.name, ignore_errors=True)
