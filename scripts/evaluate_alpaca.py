"""Rule evaluate_alpaca: how often the runs of a model, at each checkpoint, win over one of them."""

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
    data = {key: sha256(getattr(job.input, key)) for key in ("prompts", "reference")}
    to_beat = responses.read(job.input.reference, texts)
    sweeps: dict[str, dict[str, alpaca.Run]] = {}  # by checkpoint; read before a judge is loaded
    for point in catalogue.checkpoints(w.model):
        files = map(Path, catalogue.responses(w.model, point.name, w.task, w.recipe))
        file_of = {path.stem: path for path in files}
        own = reference["run"] if point.name == reference["checkpoint"] else None
        sweeps[point.name] = {
            run: alpaca.Run(settings, responses.read(file_of[run], texts), run == own)
            for run, settings in job.slice["runs"].items()
        }
        data |= {f"{point.name}/{run}": sha256(path) for run, path in file_of.items()}
    name = catalogue.settings.evaluations.alpaca.judge
    fetched = next(iter(job.input.judge), None)  # other judges are elsewhere
    verdicts, found = [], []
    with open_judge(name, catalogue.judge.model_dump(), job.gpus, fetched) as judge:
        for checkpoint, runs in sweeps.items():
            print(f"the sweep of {checkpoint}")
            kept = Path("results/state/verdicts", w.model, checkpoint, w.task, f"{w.recipe}.jsonl")
            identity = catalogue.identity(w.model, checkpoint)
            identity |= {"task": w.task, "recipe": w.recipe}
            of_sweep = alpaca.judge_sweep(rows, runs, to_beat, judge, kept, identity)
            verdicts += of_sweep[0]
            found += of_sweep[1]
    if fetched:
        data["judge"] = judge.identity["files"]
    origin = job.origin(data)
    alpaca.write_verdicts(verdicts, job.output.verdicts, origin)
    measurements.write(found, job.output.measurements, origin)
