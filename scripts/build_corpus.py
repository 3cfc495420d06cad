"""Rule build_corpus: token shards of embedded docstrings or of a hub data set."""

from job import Job
from overtrain.data import corpora
from overtrain.hub import sources
from overtrain.records.provenance import write_json

with Job(snakemake) as job:
    config, folder = job.slice, job.output.corpus
    if config["kind"] == "docstrings":
        manifest = corpora.build_from_docstrings(config, folder, job.threads)
    else:
        config = sources.pin(job.catalogue, "corpora", job.wildcards.corpus, config)
        work = folder.with_name(f"{folder.name}.work")
        manifest = corpora.build_from_hub(config, folder, work, job.threads)
    write_json(folder / "provenance.json", job.origin({"corpus": manifest["sha256"]}))
    for split, content in manifest["splits"].items():
        print(f"{split}: {content['tokens']:,} tokens in {content['documents']:,} documents")
