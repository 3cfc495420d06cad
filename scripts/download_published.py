"""Rule download_published: a paper's released files, at the pinned commit and hashes."""

import json
from pathlib import Path

from overtrain import PipelineError
from overtrain.configuration import catalogue_of
from overtrain.records import job
from overtrain.records.provenance import write_json
from overtrain.studies.released_numbers import fetch

with job.logged(snakemake.log[0]):
    source = snakemake.wildcards.source
    catalogue = catalogue_of(snakemake.config)
    if source in catalogue.absent:
        raise PipelineError(catalogue.absent[source])
    settings = catalogue.settings.released_numbers[source]
    fetch(source, settings, Path(snakemake.output.files))
    origin = job.origin(snakemake, json.loads(snakemake.params.config)["files"])
    write_json(Path(snakemake.output.provenance), origin)
