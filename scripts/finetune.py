"""Rule finetune: every run of a sweep, stacked; its snapshots and what training measured."""

from job import TorchJob
from overtrain.records.provenance import write_json
from overtrain.training.finetune import Recipe, Task, finetune
from overtrain.training.sweep_states import SweepFolders

with TorchJob(snakemake) as job:
    task = Task(job.input.train.parent, **job.slice["task"])
    recipe = Recipe.from_config(job.wildcards.recipe, job.slice["recipe"])
    minutes = job.catalogue.settings.resources.finetune.state_minutes
    folders = SweepFolders(job.output.runs, job.state, job.hashes, minutes)
    rows = finetune(job.input.checkpoint, task, recipe, job.room, job.identity, folders)
    write_json(job.output.runs / "provenance.json", job.origin())
    job.write(rows)
