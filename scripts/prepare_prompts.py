"""Rule prepare_prompts: the prompts that instruction-tuned models are compared on."""

import json
from pathlib import Path

from overtrain import job, prompts, sources

with job.logged(snakemake.log[0]):
    settings = json.loads(snakemake.params.config)
    name, path = snakemake.wildcards.prompts, Path(snakemake.output.prompts)
    settings = sources.pin(snakemake.config, "prompts", name, settings)
    prompts.prepare(name, settings, path, job.origin(snakemake, {}))
