"""Rule finetune: every run of a sweep, stacked; its snapshots and what training measured."""

from job import TorchJob
from overtrain.records.provenance import write_json
from overtrain.training.finetune import Recipe, Task, finetune
from overtrain.training.sweep_states import SweepStates

with TorchJob(snakemake) as job:
    task = Task(job.input.train.parent, **job.slice["task"])
    recipe = Recipe.from_config(job.wildcards.recipe, job.slice["recipe"])
    base, runs = job.input.checkpoint, job.output.runs
    minutes = job.catalogue.settings.resources.finetune.state_minutes
    states = SweepStates(job.state, job.hashes, minutes)
    rows = finetune(base, task, recipe, job.room, runs, job.identity, states)
    write_json(runs / "provenance.json", job.origin())
    job.write(rows)
