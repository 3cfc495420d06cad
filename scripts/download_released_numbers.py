"""Rule download_released_numbers: a paper's released files, at the pinned commit and hashes."""

from job import Job
from overtrain import PipelineError
from overtrain.records.provenance import write_json
from overtrain.studies.released_numbers import download_released_numbers

with Job(snakemake) as job:
    source, catalogue = job.wildcards.source, job.catalogue
    if source in catalogue.absent:
        raise PipelineError(catalogue.absent[source])
    download_released_numbers(source, catalogue.config["published"][source], job.output.files)
    write_json(job.output.provenance, job.origin(job.slice["files"]))
