"""Rule evaluate_alpaca: how often each run of a sweep is preferred to the reference run."""

import json
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.data import prompts
from overtrain.measuring import alpaca, responses
from overtrain.measuring.judges import open_judge
from overtrain.records import job, measurements
from overtrain.records.provenance import sha256

with job.logged(snakemake.log[0]):
    w, config = snakemake.wildcards, json.loads(snakemake.params.config)
    catalogue = catalogue_of(snakemake.config)
    rows = prompts.read(Path(snakemake.input.prompts))
    texts = [row["instruction"] for row in rows]
    files = [Path(path) for path in snakemake.input.responses]
    answers = {path.stem: responses.read(path, texts) for path in files}
    reference = config["reference"]
    of_reference = reference["run"] if w.checkpoint == reference["checkpoint"] else None
    runs = {
        name: alpaca.Run(settings, answers[name], name == of_reference)
        for name, settings in config["runs"].items()
    }
    state = Path("results/state/verdicts", w.model, w.checkpoint, w.task, f"{w.recipe}.jsonl")
    name = catalogue.settings.evaluations.alpaca.judge
    gpus = snakemake.resources.get("gpu", 0)
    fetched = next(map(Path, snakemake.input.judge), None)  # other judges are elsewhere
    with open_judge(name, catalogue.judge.model_dump(), gpus, fetched) as judge:
        verdicts, found = alpaca.judge_sweep(
            rows,
            runs,
            responses.read(Path(snakemake.input.reference), texts),
            judge,
            state,
            catalogue.identity(w.model, w.checkpoint) | {"task": w.task, "recipe": w.recipe},
        )
    data = {path.stem: sha256(path) for path in files}
    data |= {key: sha256(Path(snakemake.input[key])) for key in ("prompts", "reference")}
    if fetched:
        data["judge"] = judge.identity["files"]
    origin = job.origin(snakemake, data)
    alpaca.write_verdicts(verdicts, Path(snakemake.output.verdicts), origin)
    measurements.write(found, Path(snakemake.output.measurements), origin)
