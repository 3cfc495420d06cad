"""Rules evaluate_programs(_base): the programs that a run, or its base, writes; its loss."""

import pyarrow as pa

from job import TorchJob
from overtrain.data.tasks import read_split
from overtrain.measuring import generate, programs
from overtrain.model.released import diverged
from overtrain.records.measurements import write_table

with TorchJob(snakemake) as job:
    config, run, base = job.slice, job.input.model, not job.wildcards.get("run")
    folder = job.input.questions.parent
    questions = read_split(folder, "test", "prompted")[: config["questions"]]
    prompts = [row["messages"][0]["content"] for row in questions]
    how = generate.Decoding(
        config["new_tokens"], job.catalogue.settings.evaluations.programs.batch_size
    )
    rows, answers = [], []
    for own, weights in [({"selection": "base"}, run)] if base else programs.weights_of(run):
        identity = job.identity | own
        if diverged(run):
            rows += programs.diverged_rows(len(prompts), identity)
            continue
        said = generate.respond(weights, prompts, how, job.device, config["template"])
        found = programs.read_all(prompts, said, config["begins"])
        rows += programs.score_rows(found, identity)
        rows += programs.validation_rows(weights, folder, config, job.room, identity)
        answers += programs.answer_rows(prompts, said, found, own.get("step"))
    write_table(pa.Table.from_pylist(answers, programs.ANSWERS), job.output.answers, job.origin())
    job.write(rows)
