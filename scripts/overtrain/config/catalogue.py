"""What each file depends on: other files, and its slice of the configuration.

Read by the Snakefile at every start and in every cluster job, so nothing here imports what is
heavy. A slice is exactly what a rule's result depends on, as one sorted JSON string; what of an
entry that is stands beside the entry's type (`slice` of a corpus, a task, a suite ...).
"""

from __future__ import annotations

import hashlib
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from overtrain.config.evaluations import NOT_BENCHMARKS, AnyJudge, OfTheHub, Suite
from overtrain.config.hub import CHECKPOINTS, is_local
from overtrain.config.models import Checkpoint, ReleasedModel
from overtrain.config.resources import Resources
from overtrain.config.section import dumps
from overtrain.config.settings import Settings
from overtrain.config.studies import ReleasedNumbers

UNDER_NOISE = {  # what a figure without tasks reads of a checkpoint
    "noise_by_tokens": "gaussian",
    "sharpness_by_tokens": "sharpness",
    "loss_along_direction": "interpolation",
}
OF_INSTRUCTION_RUNS = ("tuned_scores_by_tokens", "rate_scores_by_tokens")
WITH_STATISTICS = ("noise_by_tokens", "learning_rates_by_tokens", "tuned_by_tokens")
TITLE_WIDTH = 36  # characters across a panel


def one_of(names: Iterable[str]) -> str:
    """A regular expression for any of `names`."""
    return "|".join(map(re.escape, names)) or "(?!)"  # which matches nothing


def copies_of(source: str, numbers: ReleasedNumbers) -> Path | None:
    """The folder with copies of a source's files: `local`, or in OVERTRAIN_RELEASED_NUMBERS."""
    for root in (numbers.local, os.environ.get("OVERTRAIN_RELEASED_NUMBERS")):
        if root and all(Path(root, source, name).is_file() for name in numbers.files):
            return Path(root, source)
    return None


class Catalogue:
    """The checked configuration, as the rules ask for it."""

    def __init__(self, settings: Settings, paper_task_sets: dict[str, list[str]] | None = None):
        """paper_task_sets: those before an overlay; titles of stand-ins need them."""
        self.settings = settings
        self.paper_task_sets = paper_task_sets or settings.task_sets

    # --- models and their checkpoints ---

    @cached_property
    def _checkpoints(self) -> dict[str, list[Checkpoint]]:
        return {name: model.checkpoints(name) for name, model in self.settings.models.items()}

    def checkpoints(self, model: str) -> list[Checkpoint]:
        """All checkpoints of a model, by tokens and then seed."""
        return self._checkpoints[model]

    def checkpoint(self, model: str, name: str) -> Checkpoint:
        return next(point for point in self.checkpoints(model) if point.name == name)

    def identity(self, model: str, checkpoint: str) -> dict:
        """The columns of a measurement that say which checkpoint it is of."""
        point = self.checkpoint(model, checkpoint)
        return {
            "study": self.study_of(model),
            "model": model,
            "checkpoint": checkpoint,
            "tokens": point.tokens,
            "pretraining_seed": point.seed,
        }

    def corpus_of(self, model: str) -> str:
        return self.settings.models[model].corpus

    def study_of(self, model: str) -> str:
        """Models pre-trained here are the controlled study's, the hub's the released one's."""
        return self.settings.models[model].study

    def models_of(self, study: str) -> str:
        """A regular expression for the names of a study's models."""
        return one_of(name for name in self.settings.models if self.study_of(name) == study)

    def released(self, model: str) -> ReleasedModel:
        found = self.settings.models[model]
        assert isinstance(found, ReleasedModel)
        return found

    def names(self, section: str, named: str | list[str]) -> list[str]:
        """section: models or tasks; named: a set of them, or their own list."""
        if isinstance(named, str):
            return getattr(self.settings, f"{section[:-1]}_sets")[named]
        return named

    # --- runs of instruction tuning: a job each ---

    def runs(self, recipe: str) -> dict[str, dict]:
        """Name of each run of a recipe of instruction tuning, and its learning rate and seed."""
        return self.settings.instruction_recipes[recipe].runs()

    def reference(self, model: str) -> dict:
        """Checkpoint, learning rate, seed and name of the run that AlpacaEval compares with."""
        run = self.settings.evaluations.alpaca.reference
        return run.plain() | {"checkpoint": self.released(model).reference, "run": run.name}

    def responses(self, model: str, checkpoint: str, task: str, recipe: str) -> list[str]:
        """The files with what each run of a sweep answered, in the order of `runs`."""
        folder = f"results/responses/{model}/{checkpoint}/{task}/{recipe}"
        return [f"{folder}/{run}.parquet" for run in self.runs(recipe)]

    def reference_responses(self, model: str, task: str, recipe: str) -> str:
        own = self.reference(model)
        return f"results/responses/{model}/{own['checkpoint']}/{task}/{recipe}/{own['run']}.parquet"

    def sized(self, stage: str, model: str) -> Resources:
        """The resources that a stage takes for a released model of its size."""
        return getattr(self.settings.resources, stage)[self.released(model).size]

    @property
    def suite(self) -> Suite:
        return self.settings.benchmark_suites[self.settings.evaluations.benchmarks.suite]

    @property
    def judge(self) -> AnyJudge:
        return self.settings.judges[self.settings.evaluations.alpaca.judge]

    def fetched_judges(self) -> str:
        """A regular expression for the names of judges whose model is the hub's, and run here."""
        return one_of(name for name in self.settings.judges if self.sources_of("judges", name))

    def judge_folder(self) -> list[str]:
        """Where the judge's model is downloaded to, if it is (rule download_judge)."""
        name = self.settings.evaluations.alpaca.judge
        return [f"results/judges/{name}"] if self.sources_of("judges", name) else []

    # --- sources: what the hub is asked for ---

    @cached_property
    def sources(self) -> dict[str, dict]:
        """What the figures need of the hub, by the key of the configuration that names it."""
        named: dict[tuple[str, str], None] = {}
        for paper, name in self.targets("figures"):
            target = self.config["figures"][paper][name]
            for section in ("models", "tasks"):
                for own in self.names(section, target[section]) if section in target else []:
                    named[section, own] = None
                    if section == "models":
                        named["corpora", self.corpus_of(own)] = None
            if target["plot"] in OF_INSTRUCTION_RUNS:
                alpaca = self.settings.evaluations.alpaca
                named |= {("prompts", alpaca.prompts): None, ("judges", alpaca.judge): None}
                named["benchmark_suites", self.settings.evaluations.benchmarks.suite] = None
        return {k: v for entry in sorted(named) for k, v in self.sources_of(*entry).items()}

    def sources_of(self, section: str, name: str) -> dict[str, dict]:
        """What an entry of a section of the configuration needs of the hub, by key.

        Each has its kind, repository, revision, the `files` that are needed (`Asked`) and, to
        `change` if it does not exist, the keys of the configuration.
        """
        entry = getattr(self.settings, section)[name]
        found = {}
        for asked in entry.asked():
            if is_local(asked.repository):
                continue
            where = ".".join(filter(None, (section, name, asked.key)))
            change = {"repository": f"{section}.{name}.{asked.name_key}"}
            found[where] = {
                "kind": asked.kind,
                "repository": asked.repository,
                "revision": asked.revision,
                "files": asked.files,
                "change": change | {"revision": f"{where}.revision"},
            }
        return found

    def check_first(self) -> list[str]:
        """What is made before all figures: the answers of the hub, if any of them needs it."""
        return ["results/sources.json"] if self.sources else []

    def sources_slice(self) -> str:
        """By its hash: Snakemake prints what has changed, and the answers name all sources."""
        digest = hashlib.sha256(dumps(self.sources).encode()).hexdigest()
        return dumps({"sources": digest} | self.settings.sources.plain())

    def stands_in(self, model: str, checkpoint: str) -> list[str]:
        """The checkpoint trained here that stands in for a released one, if one does."""
        hub = self.released(model).hub
        if Path(hub.repository).parent != CHECKPOINTS:
            return []
        return [f"{hub.repository}/{hub.checkpoints[checkpoint].revision}"]

    # --- slices: what a result depends on ---

    def corpus_slice(self, corpus: str) -> str:
        return dumps(self.settings.corpora[corpus].plain("title"))

    def task_slice(self, task: str) -> str:
        return dumps(self.settings.tasks[task].slice())

    def pretraining_slice(self, model: str, checkpoint: str) -> str:
        point = self.checkpoint(model, checkpoint)
        own = self.settings.models[model].plain()
        slice_ = {key: own[key] for key in ("architecture", "corpus")}
        slice_ |= {"model": model, "seed": point.seed, "tokens": point.tokens}
        return dumps(self.settings.pretraining.plain() | slice_)

    def download_slice(self, model: str, checkpoint: str) -> str:
        return dumps(self.released(model).download_slice(checkpoint))

    def download_judge_slice(self, judge: str) -> str:
        found = self.settings.judges[judge]
        assert isinstance(found, OfTheHub)
        return dumps(found.download_slice())

    def sweep_slice(self, task: str, recipe: str) -> str:
        """A recipe, and what a task's settings, beside its examples, say about training."""
        training = self.settings.tasks[task].training_slice()
        return dumps({"recipe": self.settings.recipes[recipe].plain(), "task": training})

    def instruct_slice(self, recipe: str, run: str) -> str:
        """One run's settings."""
        own = self.settings.instruction_recipes[recipe].run_slice(run)
        return dumps({"chat": self.settings.chat.plain(), "recipe": own})

    def prompts_slice(self, prompts: str) -> str:
        return dumps(self.settings.prompts[prompts].plain("title"))

    def asked_task(self, prompts: str) -> list[str]:
        """The held-out conversations that prompts are taken from, unless they have a source."""
        return self.settings.prompts[prompts].files()

    def generation_slice(self) -> str:
        own = self.settings.evaluations.alpaca.plain()
        return dumps({key: own[key] for key in ("backend", "max_new_tokens", "prompts")})

    def alpaca_slice(self, model: str, recipe: str) -> str:
        """Who judges what against what."""
        slice_ = {"judge": self.judge.verdict_slice(), "reference": self.reference(model)}
        prompts = self.settings.evaluations.alpaca.prompts
        return dumps(slice_ | {"prompts": prompts, "runs": self.runs(recipe)})

    def task_files(self, suite: str) -> list[str]:
        """The files in a suite's own folder of tasks, if it has one."""
        return self.settings.benchmark_suites[suite].files()

    def suite_slice(self, suite: str) -> str:
        return dumps(self.settings.benchmark_suites[suite].slice())

    def benchmarks_slice(self) -> str:
        return dumps(
            self.suite.asked_slice() | {"suite": self.settings.evaluations.benchmarks.suite}
        )

    def instruct_c4_slice(self, model: str) -> str:
        return dumps(self._c4(model) | {"window": self.released(model).window})

    def c4_slice(self, model: str) -> str:
        return dumps(self._c4(model))

    def _c4(self, model: str) -> dict:
        return {"corpus": self.corpus_of(model)} | self.settings.evaluations.c4.plain()

    def perturbation_slice(self, model: str) -> str:
        slice_ = self._c4(model) | self.settings.perturbation.plain()
        if self.study_of(model) == "released":
            own = self.released(model).plain()
            slice_ |= {key: own[key] for key in ("initialisation", "window")}
        return dumps(slice_)

    def sharpness_slice(self, model: str) -> str:
        return dumps({"corpus": self.corpus_of(model)} | self.settings.sharpness.plain())

    def interpolation_slice(self, model: str, direction: str) -> str:
        """direction: gaussian or fine_tuning."""
        own = self.settings.interpolation.slice(direction)
        return dumps({"corpus": self.corpus_of(model)} | own)

    def released_numbers_slice(self, source: str) -> str:
        return dumps(self.settings.released_numbers[source].slice())

    def reading_slice(self, source: str) -> str:
        return dumps(getattr(self.settings, source).reading_slice())

    def theory_slice(self, experiment: str) -> str:
        return dumps(self.settings.theory.slice(experiment))

    # --- resources ---

    def perturbation_resources(self, model: str) -> Resources:
        """A released model is hundreds of times larger than one that is pre-trained here."""
        own = self.settings.resources
        return own.perturb_released if self.study_of(model) == "released" else own.perturb

    def pretraining_minutes(self, model: str, checkpoint: str, attempt: int) -> int:
        """Minutes to ask for: 1.5 times what is expected, at most the rule's limit; it resumes."""
        speed = self.settings.models[model].tokens_per_second
        expected = self.checkpoint(model, checkpoint).tokens / speed / 60
        limit = self.settings.resources.pretrain.runtime
        return min(limit, round(attempt * (30 + 1.5 * expected)))

    @cached_property
    def absent(self) -> dict[str, str]:
        """The released numbers that are not here and not to be downloaded, and what to do."""
        return {
            source: f"the released numbers of {source} are not here and "
            f"released_numbers.{source}.download is false: set it, or name the folder that holds "
            f"{source}/ in OVERTRAIN_RELEASED_NUMBERS"
            for source, numbers in self.settings.released_numbers.items()
            if not numbers.download
            and not copies_of(source, numbers)
            and not Path("results/released_numbers", source).is_dir()
        }

    # --- targets ---

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json")

    def targets(self, kind: str, here: bool = False) -> Iterator[tuple[str, str]]:
        """(paper, target) of every figure or table; kind is "figures" or "tables".

        here: only those whose published numbers can be had.
        """
        for paper, own in self.config[kind].items():
            for target, settings in own.items():
                missing = settings.get("published") in self.absent and settings["source"] != "ours"
                if not (here and missing):
                    yield paper, target

    def target(self, paper: str, name: str) -> dict:
        """The settings of a figure or, where no figure has the name, of a table."""
        figures = self.config["figures"].get(paper, {})
        return figures[name] if name in figures else self.config["tables"][paper][name]

    def evaluations(self, target: dict) -> list[str]:
        """The measurement files of a sweep that a figure reads, by their stem."""
        plot = target["plot"]
        if plot == "distance_by_learning_rate":
            return ["training"]
        if plot == "loss_along_direction":
            return ["interpolation"]
        if plot == "optimal_rate_by_tokens":
            return ["id"]
        needed = {row["evaluation"] for row in target["rows"]}
        if plot == "tuned_by_tokens":
            needed.add("id")  # holds the validation scores that choose the rate
        if "largest_loss" in target:
            needed.add("c4")
        return sorted(needed)

    def shown(self, target: dict, model: str) -> list[Checkpoint]:
        """The checkpoints of a model that a figure shows."""
        own = self.checkpoints(model)
        if target["plot"] != "loss_along_direction":
            return own
        first = self.config["models"][model]["seeds"][0]
        return [c for c in own if c.seed == first][-self.config["interpolation"]["last"] :]

    def measurements(self, paper: str, figure: str) -> list[str]:
        """The measurement files that one figure is made of: its own slice and nothing else."""
        target = self.target(paper, figure)
        if "published" in target:
            published = [f"results/measurements/released_numbers/{target['published']}.parquet"]
            ours = self.config[target["published"]]["measurements"]
            sources = {"published": published, "ours": ours, "both": published + ours}
            return sources[target["source"]]
        if "experiment" in target:
            return [f"results/measurements/theory/{target['experiment']}.parquet"]
        files = []
        if target.get("plot") in OF_INSTRUCTION_RUNS:
            return list(self.instruction_measurements(target))
        for model in self.names("models", target["models"]):
            for checkpoint in self.shown(target, model):
                folder = f"results/measurements/{model}/{checkpoint.name}"
                if "tasks" not in target:
                    files.append(f"{folder}/{UNDER_NOISE[target['plot']]}.parquet")
                    continue
                for task in self.names("tasks", target["tasks"]):
                    for evaluation in self.evaluations(target):
                        files.append(f"{folder}/{task}/{target['recipe']}/{evaluation}.parquet")
        return files

    def instruction_measurements(self, target: dict) -> Iterator[str]:
        """Those of the runs of instruction tuning that a figure shows, and of their bases.

        Held-out text is the last link of a run's chain and always among them: a figure that came
        later would find the weights gone.
        """
        shown = evaluations_shown(target)
        benchmarks = bool(shown - set(NOT_BENCHMARKS))
        of_base = [
            stem for stem, asked in (("benchmarks", benchmarks), ("c4", "c4" in shown)) if asked
        ]
        of_run = ["benchmarks", "c4"] if benchmarks else ["c4"]
        for model in self.names("models", target["models"]):
            for checkpoint in self.checkpoints(model):
                folder = f"results/measurements/{model}/{checkpoint.name}"
                yield from (f"{folder}/{stem}.parquet" for stem in of_base)
                for task in self.names("tasks", target["tasks"]):
                    sweep = f"{folder}/{task}/{target['recipe']}"
                    if "alpaca" in shown or target["plot"] == "tuned_scores_by_tokens":
                        yield f"{sweep}/alpaca.parquet"  # which also chooses the rate
                    for run in self.runs(target["recipe"]):
                        yield from (f"{sweep}/{run}/{stem}.parquet" for stem in of_run)

    def aggregate_slice(self, paper: str, figure: str) -> str:
        """What an aggregate depends on beside its measurements: which they are, what for."""
        target = self.target(paper, figure)
        plot = target["plot"] if "plot" in target else target["content"]
        files = self.measurements(paper, figure)
        slice_ = {"measurements": files, "only": self.only(target), "plot": plot}
        if plot in WITH_STATISTICS:
            slice_["statistics"] = dict(self.config["statistics"])
            if "rows" in target:  # the cut and the choice of a rate read more than is shown
                shown = {row["evaluation"] for row in target["rows"]}
                slice_["statistics"]["evaluations"] = sorted(shown)
        return dumps(slice_)

    def only(self, target: dict) -> dict[str, list]:
        """The values of columns that a target shows, where its files hold more of them."""
        if target.get("plot") in OF_INSTRUCTION_RUNS:
            return {"evaluation": sorted(evaluations_shown(target) | {"alpaca"})}
        if "published" not in target:
            return {}
        evaluations = {c["evaluation"] for cells in cells_of(target) for c in cells}
        prompts = target.get("prompts", ["default"])
        settings = self.config[target["published"]]
        return {
            "evaluation": sorted(evaluations),
            "prompt": prompts,
            "shots": [settings["shots"], None],
        }

    def figure_slice(self, paper: str, figure: str) -> str:
        """A figure's settings with its names resolved, and the titles that it prints."""
        target = dict(self.config["figures"][paper][figure])
        if "models" not in target and "published" not in target:  # the same at every scale
            if "spectra" in target:
                target["ratios"] = self.config["theory"]["fine_tuning"]["spectra"]
            return dumps(target | {"scale": None})
        if "published" in target:
            return dumps(target | self.study_settings(target["published"]) | {"scale": None})
        if target["plot"] == "loss_along_direction":
            own = self.config["interpolation"]["fine_tuning" if "tasks" in target else "gaussian"]
            target |= {"near": own["near"], "wide": own["wide"]}
        if target["plot"] in OF_INSTRUCTION_RUNS:
            target["evaluations"] = self.evaluation_settings(target)
            target["judge"] = self.judge.title
            target["reference"] = self.config["evaluations"]["alpaca"]["reference"]
        target["title"] = self.wording(target["title"], target)
        target["models"] = self.names("models", target["models"])
        titles = {name: self.config["models"][name]["title"] for name in target["models"]}
        if "tasks" in target:
            papers = self.paper_task_sets.get(str(target["tasks"]), target["tasks"])
            target["tasks"] = self.names("tasks", target["tasks"])
            titles |= self.task_titles(target["tasks"], papers)
        corpora = {self.corpus_of(model) for model in target["models"]}
        texts = {self.config["corpora"][corpus]["title"] for corpus in corpora}
        more = {"scale": self.settings.scale, "text": " / ".join(sorted(texts)), "titles": titles}
        return dumps(target | more)

    def evaluation_settings(self, target: dict) -> dict[str, dict]:
        """Title and shown metric of each evaluation that a figure of tuned runs shows."""
        alpaca = self.config["evaluations"]["alpaca"]
        own = {
            "alpaca": {
                "title": self.config["prompts"][alpaca["prompts"]]["title"],
                "metric": alpaca["metric"],
            },
            "c4": {"title": "held-out text", "metric": "perplexity"},
        }
        known = {n: b.plain() for n, b in self.suite.tasks.items()} | own
        return {
            name: {key: known[name][key] for key in ("title", "metric")}
            for name in sorted(evaluations_shown(target) | {"alpaca"})
        }

    def study_settings(self, study: str) -> dict:
        """What the targets of a study of published checkpoints print: order, titles, units."""
        settings = self.config[study]
        return {
            "checkpoints": settings["checkpoints"],
            "evaluations": settings["evaluations"],
            "trained_on": settings["trained_on"],
        }

    def task_titles(self, names: list[str], papers: list[str]) -> dict[str, str]:
        """Titles of the tasks of a figure; a stand-in's says for which of the `papers`' it stands.

        Of several that may stand in for a task, the one that lists it first does.
        """
        tasks = self.config["tasks"]
        places = {name: stood_for(tasks[name]) for name in names}
        titles = {}
        for name, own in places.items():
            mine = [
                tasks[task]["title"]
                for i, task in enumerate(own)
                if task in papers and not any(task in other[:i] for other in places.values())
            ]
            lines = textwrap.wrap(f"(for {', '.join(mine)})", TITLE_WIDTH) if mine else []
            titles[name] = "\n".join([tasks[name]["title"], *lines])
        return titles

    def wording(self, title: str, target: dict) -> str:
        """A title with {models}, and what the recipe says ({batch_size} ...), filled in."""
        words = dict(self.config["recipes"].get(target.get("recipe"), {}))
        if "models" in target:
            names = self.names("models", target["models"])
            words["models"] = ", ".join(self.config["models"][name]["title"] for name in names)
        if "tasks" in target:
            papers = self.paper_task_sets.get(str(target["tasks"]), target["tasks"])
            titles = self.task_titles(self.names("tasks", target["tasks"]), papers).values()
            words["tasks"] = ", ".join(title.replace("\n", " ") for title in titles)
        return title.format_map(words)

    def index(self, paper: str, table: str) -> Iterator[tuple[dict, dict, list[str]]]:
        """(row, column, figures) of every cell of a table that is an index of a paper's figures.

        The figures are those that have all keys of the row's and the column's `match`, as they
        are written in the configuration.
        """
        figures = self.config["figures"][paper]
        target = self.config["tables"][paper][table]
        if "grid" in target:
            for name, row, column in self.settings.figure_grids[paper][target["grid"]].cells():
                row = {"title": row.get("row", row["title"]), "match": row}
                column = {"title": column.get("column", column["title"]), "match": column}
                yield row, column, [name]
            return
        for row in target["rows"]:
            for column in target["columns"]:
                if row["match"] is None:
                    yield row, column, []
                    continue
                match = row["match"] | column["match"]
                found = [
                    name
                    for name, settings in figures.items()
                    if all(settings.get(key) == value for key, value in match.items())
                ]
                yield row, column, sorted(found)

    def table_slice(self, paper: str, table: str) -> str:
        """A table's settings and every part of the configuration that it prints."""
        target = dict(self.config["tables"][paper][table])
        if target["content"] == "pretraining":
            target["models"] = self.names("models", target["models"])
            printed = ("title", "architecture", "budgets", "seeds")
            target["model_settings"] = {
                m: {key: self.config["models"][m][key] for key in printed} for m in target["models"]
            }
            target["pretraining"] = self.config["pretraining"]
        elif "published" in target:
            return dumps(target | self.study_settings(target["published"]) | {"scale": None})
        elif target["content"] == "figure_index":
            target["cells"] = [found for _, _, found in self.index(paper, table)]
            cells = list(self.index(paper, table))
            for key, of in (("rows", 0), ("columns", 1)):
                titles = [self.wording(c[of]["title"], c[of]["match"] or {}) for c in cells]
                width = len({id(c[1]["match"]) for c in cells})
                target[key] = titles[::width] if of == 0 else titles[:width]
        elif target["content"] == "released_checkpoints":
            target["models"] = self.names("models", target["models"])
            target["model_settings"] = {
                m: {key: self.config["models"][m][key] for key in ("title", "hub")}
                for m in target["models"]
            }
        elif target["content"] == "instruction_tuning":
            target["tasks"] = self.names("tasks", target["tasks"])
            target["task_settings"] = {
                name: {key: self.config["tasks"][name][key] for key in ("title", "examples")}
                for name in target["tasks"]
            }
            target["recipe_settings"] = self.config["instruction_recipes"][target["recipe"]]
        elif target["content"] in ("study_tasks", "study_prompts"):
            study = self.config[target["study"]]
            printed = {key: study[key] for key in ("evaluations", "trained_on")}
            printed["tasks"] = list(study["tasks"].values())  # in the order of the paper
            return dumps(target | {"study": printed, "scale": None})
        else:
            target["recipe_settings"] = {r: self.config["recipes"][r] for r in target["recipes"]}
        return dumps(target | {"scale": self.settings.scale})

    def figure_aggregate(self, paper: str, figure: str) -> list[str]:
        """The aggregate of a figure of measurements; a schematic has none."""
        if {"models", "experiment", "published"} & set(self.config["figures"][paper][figure]):
            return [f"results/aggregates/{paper}/{figure}.parquet"]
        return []

    def table_aggregate(self, paper: str, table: str) -> list[str]:
        """The aggregate of a table of measurements; a table of settings has none."""
        if "published" in self.config["tables"][paper][table]:
            return [f"results/aggregates/{paper}/{table}.parquet"]
        return []


def stood_for(task: dict) -> list[str]:
    """The tasks of the paper that a stand-in may stand for, the likest first."""
    names = task.get("stands_for") or []
    return [names] if isinstance(names, str) else names


def evaluations_shown(target: dict) -> set[str]:
    """The evaluations in the panels of a figure of tuned runs."""
    return {name for panel in target["panels"] for name in panel["evaluations"]}


def cells_of(target: dict) -> list[list[dict]]:
    """The (task, evaluation) cells that a target of published numbers names, by panel or group."""
    if "cells" in target:
        return [target["cells"]]
    if "groups" in target:
        return [group["cells"] for group in target["groups"]]
    return [
        [{"task": t, "evaluation": e} for t in d["tasks"] for e in d["evaluations"]]
        for d in target["directions"]
    ]
