"""Rule evaluate_alpaca: how often each run of a sweep is preferred to the reference run."""

from pathlib import Path

from job import Job
from overtrain.data import prompts
from overtrain.measuring import alpaca, responses
from overtrain.measuring.judges import open_judge
from overtrain.records import measurements
from overtrain.records.provenance import sha256

with Job(snakemake) as job:
    w, catalogue, reference = job.wildcards, job.catalogue, job.slice["reference"]
    rows = prompts.read(job.input.prompts)
    texts = [row["instruction"] for row in rows]
    files = job.input.responses
    answers = {path.stem: responses.read(path, texts) for path in files}
    of_reference = reference["run"] if w.checkpoint == reference["checkpoint"] else None
    runs = {
        run: alpaca.Run(settings, answers[run], run == of_reference)
        for run, settings in job.slice["runs"].items()
    }
    name = catalogue.settings.evaluations.alpaca.judge
    fetched = next(iter(job.input.judge), None)  # other judges are elsewhere
    with open_judge(name, catalogue.judge.model_dump(), job.gpus, fetched) as judge:
        verdicts, found = alpaca.judge_sweep(
            rows,
            runs,
            responses.read(job.input.reference, texts),
            judge,
            Path("results/state/verdicts", w.model, w.checkpoint, w.task, f"{w.recipe}.jsonl"),
            catalogue.identity(w.model, w.checkpoint) | {"task": w.task, "recipe": w.recipe},
        )
    data = {path.stem: sha256(path) for path in files}
    data |= {key: sha256(getattr(job.input, key)) for key in ("prompts", "reference")}
    if fetched:
        data["judge"] = judge.identity["files"]
    origin = job.origin(data)
    alpaca.write_verdicts(verdicts, job.output.verdicts, origin)
    measurements.write(found, job.output.measurements, origin)
