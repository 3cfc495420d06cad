"""Rule prepare_prompts: the prompts that instruction-tuned models are compared on."""

import json
from pathlib import Path

from overtrain import job, prompts

with job.logged(snakemake.log[0]):
    settings = json.loads(snakemake.params.config)
    path = Path(snakemake.output.prompts)
    prompts.prepare(snakemake.wildcards.prompts, settings, path, job.origin(snakemake, {}))
