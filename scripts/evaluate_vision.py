"""Rule evaluate_vision: what a visually tuned run answers about images, and what that scores."""

import pyarrow as pa

from job import TorchJob
from overtrain.data.images import Images
from overtrain.measuring import vision, vision_questions, vision_scores
from overtrain.model.released import diverged
from overtrain.records.measurements import write_table

with TorchJob(snakemake) as job:
    config, run = job.slice, job.input.model
    suite = vision_questions.read_suite(job.input.suite, config)
    images = Images(job.input.suite / vision_questions.IMAGES)
    batch_size, lost = job.catalogue.vision_suite.batch_size, diverged(run)
    if not lost:
        own = (config["template"], config["layer"], job.device)
        model = vision.load(run, job.input.encoder, *own)
    scores, rows = {}, []
    for name, questions in suite.items():
        settings = config["benchmarks"][name]
        answers = [None] * len(questions)
        if not lost:
            how = (settings["max_new_tokens"], batch_size, job.threads)
            answers = vision.ask(model, questions, images, *how)
        answered = vision_scores.read(settings["kind"], questions, answers)
        scores[name] = vision_scores.score(answered, settings)
        rows += vision.answer_rows(name, questions, answers, None if lost else answered.credits)
    write_table(pa.Table.from_pylist(rows, vision.ANSWERS), job.output.answers, job.origin())
    job.write(vision_scores.rows_of(scores, job.identity, lost))
