"""Rule download_text: a part's source files of a corpus, and its tokenizer, from the hub."""

from job import STATE, Job
from overtrain.data import parts
from overtrain.hub import sources

with Job(snakemake) as job:
    corpus, part = job.wildcards.corpus, job.wildcards.part
    config = sources.pin(job.catalogue, "corpora", corpus, job.slice)
    parts.download(config, part, job.output.texts, STATE / "texts" / corpus / part)
