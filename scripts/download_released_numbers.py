"""Rule download_released_numbers: a paper's released files, at the pinned commit and hashes."""

from job import Job
from overtrain import PipelineError
from overtrain.records.provenance import write_json
from overtrain.studies.released_numbers import fetch

with Job(snakemake) as job:
    source, catalogue = job.wildcards.source, job.catalogue
    if source in catalogue.absent:
        raise PipelineError(catalogue.absent[source])
    fetch(source, catalogue.settings.released_numbers[source], job.output.files)
    write_json(job.output.provenance, job.origin(job.slice["files"]))
