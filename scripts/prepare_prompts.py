"""Rule prepare_prompts: the prompts that instruction-tuned models are compared on."""

import json
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.data import prompts
from overtrain.hub import sources
from overtrain.records import job
from overtrain.records.provenance import sha256

with job.logged(snakemake.log[0]):
    settings = json.loads(snakemake.params.config)
    name, path = snakemake.wildcards.prompts, Path(snakemake.output.prompts)
    settings = sources.pin(catalogue_of(snakemake.config), "prompts", name, settings)
    data = {path: sha256(Path(path)) for path in snakemake.input}
    prompts.prepare(name, settings, Path("results/tasks"), path, job.origin(snakemake, data))
