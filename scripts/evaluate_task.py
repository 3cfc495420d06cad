"""Rules evaluate_task(_base): a tuned run, or a checkpoint, on the suite of prompted tasks."""

import pyarrow as pa

from job import TorchJob
from overtrain.measuring import harness, prompted, task_scores
from overtrain.model.released import diverged
from overtrain.records.measurements import write_table

with TorchJob(snakemake) as job:
    asked, suite, folder = job.slice, job.catalogue.task_suite, job.input.model
    identity = {"selection": "base"} | job.identity  # of a run, the last epoch
    lost, rows, said = diverged(folder), [], []
    if not lost:
        settings = {"backend": suite.backend, "batch_size": suite.batch_size}
        model = harness.language_model(folder, settings, job.device.type, job.gpus)
    own = getattr(job.input, "own", [])  # the splits of a run's own task
    for cell in prompted.cells(asked, job.input.questions, job.input.examples, own):
        answers = None if lost else prompted.ask(model, cell, asked["separator"], asked.get("stop"))
        credits = None if lost else task_scores.credits(cell, answers)
        rows += task_scores.rows_of(cell, credits, identity, asked["shots"], asked["bootstrap"])
        said += task_scores.answer_rows(cell, answers, credits)
    table = pa.Table.from_pylist(said, task_scores.ANSWERS)
    write_table(table, job.output.answers, job.origin())
    job.write(rows)
