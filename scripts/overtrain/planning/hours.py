"""GPU-hours of a study's runs, by what they are tuned on: expected, and of jobs that have run.

Of the runs that figures ask for by default: those at the paper's learning rates, and base models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from overtrain.config import paths
from overtrain.config.section import dumps
from overtrain.planning.asked import Ask
from overtrain.planning.spent import seconds_of
from overtrain.records.measurements import row

HOUR = 3600
# The rules of each part, with their stage of `resources`.
OF_BASE: dict[str, tuple[str, ...]] = {
    "evaluation": ("evaluate_task_base", "evaluate_benchmarks_base")
}
OF_RUNS: dict[str, tuple[str, ...]] = {
    "training": ("finetune_instruct",),
    "evaluation": ("evaluate_task", "evaluate_benchmarks", "evaluate_c4_instruct"),
}
FILES = {"evaluate_task": "tasks", "evaluate_benchmarks": "benchmarks"}
FILES |= {f"{rule}_base": file for rule, file in FILES.items()} | {"evaluate_c4_instruct": "c4"}


@dataclass(frozen=True)
class Hours:
    """Of the study of released numbers that is also run here."""

    ask: Ask
    study: str

    def jobs(self) -> Iterator[tuple[str, str, SimpleNamespace]]:
        """(part, rule, wildcards) of every job; those of base models have no task."""
        catalogue = self.ask.catalogue
        ours = getattr(catalogue.settings, self.study).ours
        for point in catalogue.checkpoints(ours.model):
            base = {"model": ours.model, "checkpoint": point.name}
            for part, rules in OF_BASE.items():
                for rule in rules:
                    yield part, rule, SimpleNamespace(**base)
            for own in ours.tuned.values():
                for run, its in catalogue.runs(own.recipe).items():
                    if its["learning_rate"] != own.learning_rate:
                        continue
                    names = base | {"task": own.task, "recipe": own.recipe, "run": run}
                    chain = catalogue.evaluations_of_runs(own.task, own.recipe)
                    for part, rules in OF_RUNS.items():
                        for rule in rules:
                            if FILES.get(rule, chain[0]) in chain:
                                yield part, rule, SimpleNamespace(**names)

    def files(self) -> list[str]:
        """The measurements after which every job has run."""
        catalogue, found = self.ask.catalogue, []
        for _, rule, names in self.jobs():
            if file := FILES.get(rule):
                point = catalogue.checkpoint(names.model, names.checkpoint)
                own = vars(names)
                tuned = [own[key] for key in ("task", "recipe", "run") if key in own]
                found.append(paths.of_checkpoint(point, "/".join([*tuned, file])))
        return found

    def slice(self) -> str:
        """Hours by (part, task), and the benchmark files that say what its jobs took."""
        found: dict[tuple, dict] = {}
        for part, rule, names in self.jobs():
            own = self.ask.resources(stage_of(rule), names)
            task, recipe = (getattr(names, key, None) for key in ("task", "recipe"))
            empty = {"part": part, "task": task, "recipe": recipe, "expected": 0.0}
            entry = found.setdefault((part, task), empty | {"jobs": []})
            seconds = self.ask.estimator.need(rule, names, own.gpu).seconds
            entry["expected"] += max(1, own.gpu) * seconds / HOUR
            file = "/".join(["results/benchmarks", rule, *vars(names).values()])
            entry["jobs"].append({"benchmark": f"{file}.tsv", "devices": own.gpu or own.threads})
        ours = getattr(self.ask.catalogue.settings, self.study).ours
        return dumps({"study": self.study, "model": ours.model, "rows": list(found.values())})


def stage_of(rule: str) -> str:
    """The stage of `resources` that a rule asks for."""
    return "finetune_instruct" if rule == "finetune_instruct" else "benchmarks"


def rows_of(slice_: dict, spent: bool) -> list[dict]:
    """Measurement rows of what `Hours.slice` gives.

    spent: also of the time that the jobs took; none where the benchmark file of one is not there.
    """
    rows = []
    for entry in slice_["rows"]:
        identity = {key: slice_[key] for key in ("study", "model")}
        identity |= {"task": entry["task"], "recipe": entry["recipe"], "evaluation": entry["part"]}
        identity["selection"] = "last" if entry["task"] else "base"
        jobs = entry["jobs"]
        rows.append(row(identity, "gpu_hours_expected", entry["expected"], n=len(jobs)))
        if spent and all(Path(job["benchmark"]).exists() for job in jobs):
            took = sum(job["devices"] * seconds_of(Path(job["benchmark"])) for job in jobs)
            rows.append(row(identity, "gpu_hours_spent", took / HOUR, n=len(jobs)))
    return rows
