"""Made-up measurements of "Amuro & Char": of our runs, with our names, and published ones."""

import json
import random
from pathlib import Path

import pandas as pd

from overtrain.figures import plots, tables
from overtrain.figures.aggregate import aggregate
from overtrain.figures.targets import Targets
from overtrain.records import measurements

STUDY = "amuro_char"
BASE = {"selection": "base", "task": None, "recipe": None, "learning_rate": None, "seed": None}


def value_of(*names: object) -> float:
    """A score that depends on the names alone."""
    return round(random.Random("/".join(map(str, names))).uniform(0.2, 0.8), 3)


def ours(targets: Targets) -> list[dict]:
    """Every row that our base models and runs have, also those that no figure shows."""
    catalogue = targets.catalogue
    own = catalogue.settings.amuro_char.ours
    rows = []
    for point in catalogue.checkpoints(own.model):
        where = {"study": STUDY, "source": "ours", "model": own.model, "split": "test", "n": 100}
        where |= {"checkpoint": point.name, "tokens": point.tokens, "stderr": 0.02}
        rows += scores(where | BASE, None, targets)
        for tuned in own.tuned.values():
            for its in catalogue.runs(tuned.recipe).values():
                run = where | its | {"selection": "last", "task": tuned.task}
                run |= {"recipe": tuned.recipe}
                rows += scores(run, tuned.task, targets)
                if catalogue.own_files(tuned.task):
                    validation = {"evaluation": "id", "split": "validation", "prompt": "default"}
                    rows += scored(run | validation | {"shots": 4}, metrics(tuned.task, targets))
    return rows


def metrics(task: str, targets: Targets) -> list[str]:
    labels = targets.catalogue.prompted(task).choices
    return ["accuracy", "accuracy_generated"] if labels else ["rouge_l"]


def scored(where: dict, of: list[str]) -> list[dict]:
    keys = (
        "source",
        "checkpoint",
        "task",
        "learning_rate",
        "seed",
        "evaluation",
        "prompt",
        "split",
    )
    names = [where[key] for key in keys]
    return [where | {"metric": m, "value": value_of(m, *names), "diverged": False} for m in of]


def scores(where: dict, task: str | None, targets: Targets) -> list[dict]:
    """On the suite of prompted tasks, in the formats that are asked, and on the benchmarks."""
    catalogue, rows = targets.catalogue, []
    for name, asked in catalogue.task_suite.evaluations.items():
        for prompt in catalogue.formats_asked(name, task):
            shown = where | {"evaluation": name, "prompt": prompt}
            shown |= {"shots": catalogue.task_suite.shots}
            rows += scored(shown, metrics(asked.task, targets))
    suite = catalogue.suite_of(where["model"])
    for name in suite.tasks:
        shown = where | {"evaluation": name, "prompt": None, "shots": suite.shots}
        rows += scored(shown, ["accuracy", "accuracy_norm"])
    return rows


def published(targets: Targets) -> list[dict]:
    """Of each checkpoint of the study, at its shots and, to be left out, at none."""
    study = targets.catalogue.settings.amuro_char
    rows = []
    for checkpoint in study.checkpoints:
        where = {"study": STUDY, "source": "published", "model": study.model, "split": "test"}
        where |= {"checkpoint": checkpoint, "tokens": study.tokens_of(checkpoint), "stderr": 0.01}
        for task in [None, *study.trained_on]:
            run = {"selection": "last", "task": task, "recipe": "3epochs", "learning_rate": 1e-6}
            for name, evaluation in study.evaluations.items():
                for prompt in ("default", "instruction", "input_output"):
                    own = where | (run | {"seed": None} if task else BASE)
                    own |= {"evaluation": name, "prompt": prompt}
                    (row,) = scored(own | {"shots": study.shots}, [evaluation.metric])
                    rows += [row, row | {"shots": 0, "value": 0.0}]
    return rows


def rows_of(target: str, rows: list[dict], targets: Targets, folder: Path) -> pd.DataFrame:
    """A target's aggregate of all `rows`, as far as they are in its files."""
    released = any("released_numbers" in f for f in targets.measurements(STUDY, target))
    mine = getattr(targets.target(STUDY, target), "source", "ours") != "published"
    sources = {name for name, read in (("published", released), ("ours", mine)) if read}
    rows = [row for row in rows if row["source"] in sources]
    folder.mkdir(parents=True, exist_ok=True)
    file, output = folder / "rows.parquet", folder / "aggregate.parquet"
    measurements.write(rows, file, {})
    aggregate([file], json.loads(targets.aggregate_slice(STUDY, target))["rows"], output, {})
    return measurements.read(output).to_pandas()


def figure(target: str, rows: list[dict], targets: Targets, folder: Path) -> pd.DataFrame:
    """Draw a figure; what is on it."""
    settings = json.loads(targets.figure_slice(STUDY, target))
    path = folder / f"{target}.pdf"
    plots.draw(rows_of(target, rows, targets, folder / "rows"), settings, path)
    return pd.read_csv(path.with_suffix(".csv"))


def table(target: str, rows: list[dict], targets: Targets, folder: Path) -> pd.DataFrame:
    """Write a table; what is in it, as text."""
    settings = json.loads(targets.table_slice(STUDY, target))
    path = folder / f"{target}.csv"
    tables.write(settings, path, rows_of(target, rows, targets, folder / "rows"))
    return pd.read_csv(path, dtype=str, keep_default_na=False)
