"""Rules evaluate_c4_instruct, evaluate_c4_base: a tuned run, or a checkpoint, on held-out text."""

from job import TorchJob
from overtrain.measuring.held_out import held_out_rows
from overtrain.model.losses import held_out_text

with TorchJob(snakemake) as job:
    text = held_out_text(job.input.corpus, job.slice["window"], job.slice["tokens"])
    identity = {"selection": "base"} | job.identity  # of a run, the last epoch
    job.write(held_out_rows(job.input.model, text, job.room, identity))
    if job.wildcards.get("run"):
        job.reads_last(job.catalogue.tuned_by(job.wildcards.recipe), "model")
