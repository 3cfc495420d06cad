"""Rule download_published: a paper's released files, at the pinned commit and hashes."""

import json
from pathlib import Path

from overtrain import PipelineError
from overtrain.config.catalogue import Catalogue
from overtrain.records import job
from overtrain.records.provenance import write_json
from overtrain.studies.released_numbers import download_published

with job.logged(snakemake.log[0]):
    source = snakemake.wildcards.source
    catalogue = Catalogue(snakemake.config)
    if source in catalogue.absent:
        raise PipelineError(catalogue.absent[source])
    settings = catalogue.config["published"][source]
    download_published(source, settings, Path(snakemake.output.files))
    origin = job.origin(snakemake, json.loads(snakemake.params.config)["files"])
    write_json(Path(snakemake.output.provenance), origin)
