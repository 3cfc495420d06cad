"""What each file depends on: other files, and its slice of the configuration.

Read by the Snakefile at every start and in every cluster job, so it imports nothing but the
standard library. A slice is exactly what a rule's result depends on, as one sorted JSON string:
Snakemake compares parameters by their text, and an overlay may permute keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
UNDER_NOISE = {  # what a figure without tasks reads of a checkpoint
    "noise_by_tokens": "gaussian",
    "sharpness_by_tokens": "sharpness",
    "loss_along_direction": "interpolation",
}
OF_INSTRUCTION_RUNS = ("tuned_scores_by_tokens", "rate_scores_by_tokens")
NOT_BENCHMARKS = ("alpaca", "c4")  # what else a tuned run is evaluated on
WITH_STATISTICS = ("noise_by_tokens", "learning_rates_by_tokens", "tuned_by_tokens")
TITLE_WIDTH = 36  # characters across a panel


@dataclass(frozen=True)
class Checkpoint:
    """A point of a model's pre-training: its name, token budget and pre-training seed."""

    model: str
    name: str
    tokens: int
    seed: int


def tokens_of(budget: str) -> int:
    """4B -> 4000000000, 0.84M -> 840000."""
    return round(float(budget[:-1]) * UNITS[budget[-1]])


def dumps(slice_: dict) -> str:
    return json.dumps(slice_, sort_keys=True)


def one_of(names: Iterable[str]) -> str:
    """A regular expression for any of `names`."""
    return "|".join(map(re.escape, names)) or "(?!)"  # which matches nothing


def is_local(repository: str) -> bool:
    """Whether a repository is a folder, there or still to be made; the hub's are owner/name."""
    path = Path(repository)
    return path.is_absolute() or repository.count("/") > 1 or path.is_dir()


def published_copies(source: str, settings: dict) -> Path | None:
    """The folder that holds copies of a source's files: `local`, or one in OVERTRAIN_PUBLISHED."""
    for root in (settings["local"], os.environ.get("OVERTRAIN_PUBLISHED")):
        if root and all(Path(root, source, name).is_file() for name in settings["files"]):
            return Path(root, source)
    return None


class Catalogue:
    """The checked configuration, as the rules ask for it."""

    def __init__(self, config: dict, task_sets: dict[str, list[str]] | None = None):
        """task_sets: those of the paper, before an overlay; titles of stand-ins need them."""
        self.config = json.loads(json.dumps(config))  # plain dictionaries, whatever the loader gave
        for model in self.config["models"].values():
            if "hub" in model:  # an overlay cannot remove a key, only set it to null
                own = model["hub"]["checkpoints"]
                model["hub"]["checkpoints"] = {name: p for name, p in own.items() if p}
        self.paper_tasks = self.config["task_sets"] if task_sets is None else task_sets

    # --- checkpoints ---

    @cached_property
    def _checkpoints(self) -> dict[tuple[str, str], Checkpoint]:
        found = {}
        for model, settings in self.config["models"].items():
            for name, point in settings.get("hub", {}).get("checkpoints", {}).items():
                found[model, name] = Checkpoint(model, name, tokens_of(point["tokens"]), 0)
            for seed in settings.get("seeds", []):
                for budget in settings["budgets"]:
                    # Seed 0 has no suffix, so that adding seeds renames, and retrains, nothing.
                    name = budget if seed == 0 else f"{budget}-seed{seed}"
                    found[model, name] = Checkpoint(model, name, tokens_of(budget), seed)
        return found

    def checkpoints(self, model: str) -> list[Checkpoint]:
        """All checkpoints of a model, by tokens and then seed."""
        own = [c for (m, _), c in self._checkpoints.items() if m == model]
        return sorted(own, key=lambda c: (c.tokens, c.seed))

    def checkpoint(self, model: str, name: str) -> Checkpoint:
        return self._checkpoints[model, name]

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
        return self.config["models"][model]["corpus"]

    def study_of(self, model: str) -> str:
        """Models pre-trained here are the controlled study's, the hub's the released one's."""
        return "released" if "hub" in self.config["models"][model] else "controlled"

    def models_of(self, study: str) -> str:
        """A regular expression for the names of a study's models."""
        return one_of(m for m in self.config["models"] if self.study_of(m) == study)

    # --- runs of instruction tuning: a job each ---

    def runs(self, recipe: str) -> dict[str, dict]:
        """Name of each run of a recipe of instruction tuning, and its learning rate and seed."""
        settings = self.config["instruction_recipes"][recipe]
        return {
            f"lr{rate:g}-seed{seed}": {"learning_rate": rate, "seed": seed}
            for rate in map(float, settings["learning_rates"])
            for seed in settings["seeds"]
        }

    def reference(self, model: str) -> dict:
        """Checkpoint, learning rate, seed and name of the run that AlpacaEval compares with."""
        run = dict(self.config["evaluations"]["alpaca"]["reference"])
        name = f"lr{float(run['learning_rate']):g}-seed{run['seed']}"
        return run | {"checkpoint": self.config["models"][model]["reference"], "run": name}

    def responses(self, model: str, checkpoint: str, task: str, recipe: str) -> list[str]:
        """The files with what each run of a sweep answered, in the order of `runs`."""
        folder = f"results/responses/{model}/{checkpoint}/{task}/{recipe}"
        return [f"{folder}/{run}.parquet" for run in self.runs(recipe)]

    def reference_responses(self, model: str, task: str, recipe: str) -> str:
        own = self.reference(model)
        return f"results/responses/{model}/{own['checkpoint']}/{task}/{recipe}/{own['run']}.parquet"

    def sized(self, rule: str, model: str) -> dict[str, int]:
        """The resources that a rule takes for a model of its size."""
        return self.config["resources"][rule][self.config["models"][model]["size"]]

    @property
    def suite(self) -> dict:
        return self.config["benchmark_suites"][self.config["evaluations"]["benchmarks"]["suite"]]

    @property
    def judge(self) -> dict:
        return self.config["judges"][self.config["evaluations"]["alpaca"]["judge"]]

    def fetched_judges(self) -> str:
        """A regular expression for the names of judges whose model is the hub's, and run here."""
        return one_of(name for name in self.config["judges"] if self.sources_of("judges", name))

    def judge_folder(self) -> list[str]:
        """Where the judge's model is downloaded to, if it is (rule download_judge)."""
        name = self.config["evaluations"]["alpaca"]["judge"]
        return [f"results/judges/{name}"] if self.sources_of("judges", name) else []

    # --- sources: what the hub is asked for ---

    @cached_property
    def sources(self) -> dict[str, dict]:
        """What the figures need of the hub, by the key of the configuration that names it."""
        named: dict[tuple[str, str], None] = {}
        for paper, name in self.targets("figures"):
            target = self.config["figures"][paper][name]
            for section in ("models", "tasks"):
                for own in self.names(target, section) if section in target else []:
                    named[section, own] = None
                    if section == "models":
                        named["corpora", self.corpus_of(own)] = None
            if target["plot"] in OF_INSTRUCTION_RUNS:
                alpaca = self.config["evaluations"]["alpaca"]
                named |= {("prompts", alpaca["prompts"]): None, ("judges", alpaca["judge"]): None}
                named["benchmark_suites", self.config["evaluations"]["benchmarks"]["suite"]] = None
        return {k: v for entry in sorted(named) for k, v in self.sources_of(*entry).items()}

    def sources_of(self, section: str, name: str) -> dict[str, dict]:
        """What an entry of a section of the configuration needs of the hub, by key.

        Each has its kind ("model" or "dataset"), repository, revision, the `files` that are needed
        ("checkpoint", or a template and their count, a folder, names; null: all) and, to `change`
        if it does not exist, the keys of the configuration.
        """
        found, settings = {}, self.config[section][name]
        source, tokenizer = settings.get("source", {}), settings.get("tokenizer") or {}

        def ask(key: str, kind: str, own: dict, name_key: str, files: object) -> None:
            repository = own.get("repository", own.get("dataset"))
            if repository and not is_local(repository):
                where = ".".join(filter(None, (section, name, key)))
                change = {"repository": f"{section}.{name}.{name_key}"}
                change["revision"] = f"{where}.revision"
                found[where] = {"kind": kind, "repository": repository, "files": files}
                found[where] |= {"revision": own["revision"], "change": change}

        if section == "models":
            hub = settings.get("hub", {"checkpoints": {}})
            for checkpoint, point in hub["checkpoints"].items():
                own = {"repository": hub["repository"], "revision": point["revision"]}
                ask(f"hub.checkpoints.{checkpoint}", "model", own, "hub.repository", "checkpoint")
        elif section == "benchmark_suites":
            for task, own in settings["tasks"].items():
                if dataset := own.get("dataset"):
                    own = {"repository": dataset["path"], "revision": dataset["revision"]}
                    key = f"tasks.{task}.dataset"
                    ask(key, "dataset", own, f"{key}.path", None)
        elif section == "judges":
            if settings["kind"] in ("vllm", "transformers"):  # others are served elsewhere
                own = {"repository": settings["model"], "revision": settings["revision"]}
                ask("", "model", own, "model", "checkpoint")
        else:
            files = None  # all
            if "file_count" in source:
                files = {"template": source["files"], "count": source["file_count"]}
            elif "data_dir" in source:
                files = {"folder": source["data_dir"]}
            elif "file" in source:
                files = {"names": [source["file"]]}
            ask("source", "dataset", source, "source.dataset", files)
            key = "tokenizer.hub" if "hub" in tokenizer else "tokenizer"
            own = tokenizer.get("hub", tokenizer)
            ask(key, "model", own, f"{key}.repository", {"names": ["tokenizer.json"]})
        return found

    def check_first(self) -> list[str]:
        """What is made before all figures: the answers of the hub, if any of them needs it."""
        return ["results/sources.json"] if self.sources else []

    def sources_slice(self) -> str:
        """By its hash: Snakemake prints what has changed, and the answers name all sources."""
        digest = hashlib.sha256(dumps(self.sources).encode()).hexdigest()
        return dumps({"sources": digest} | self.config["sources"])

    def published_revision(self, model: str, checkpoint: str) -> list[str]:
        """The folder of a revision that is a checkpoint trained here (rule publish_checkpoint)."""
        hub = self.config["models"][model]["hub"]
        if not hub["repository"].startswith("results/hub/"):
            return []
        return [f"{hub['repository']}/{hub['checkpoints'][checkpoint]['revision']}"]

    # --- slices: what a result depends on ---

    def corpus_slice(self, corpus: str) -> str:
        return dumps({k: v for k, v in self.config["corpora"][corpus].items() if k != "title"})

    def task_slice(self, task: str) -> str:
        settings = self.config["tasks"][task]
        # What training makes of the examples is `sweep_slice`'s.
        return dumps(
            {k: v for k, v in settings.items() if k not in ("title", "stands_for", "loss_on")}
        )

    def pretraining_slice(self, model: str, checkpoint: str) -> str:
        c = self.checkpoint(model, checkpoint)
        settings = self.config["models"][model]
        slice_ = {
            "architecture": settings["architecture"],
            "corpus": settings["corpus"],
            "model": model,
            "seed": c.seed,
            "tokens": c.tokens,
        }
        return dumps(self.config["pretraining"] | slice_)

    def download_slice(self, model: str, checkpoint: str) -> str:
        hub = self.config["models"][model]["hub"]
        revision = hub["checkpoints"][checkpoint]["revision"]
        return dumps({"repository": hub["repository"], "revision": revision})

    def download_judge_slice(self, judge: str) -> str:
        settings = self.config["judges"][judge]
        return dumps({"repository": settings["model"], "revision": settings["revision"]})

    def sweep_slice(self, task: str, recipe: str) -> str:
        """A recipe, and what a task's settings, beside its examples, say about training."""
        settings = self.config["tasks"][task]
        training = {key: settings[key] for key in ("kind", "loss_on") if key in settings}
        return dumps({"recipe": self.config["recipes"][recipe], "task": training})

    def instruct_slice(self, recipe: str, run: str) -> str:
        """One run's settings."""
        settings = self.config["instruction_recipes"][recipe]
        own = {k: v for k, v in settings.items() if k not in ("learning_rates", "seeds")}
        return dumps({"chat": self.config["chat"], "recipe": own | self.runs(recipe)[run]})

    def prompts_slice(self, prompts: str) -> str:
        return dumps({k: v for k, v in self.config["prompts"][prompts].items() if k != "title"})

    def asked_task(self, prompts: str) -> list[str]:
        """The held-out conversations that prompts are taken from, unless they have a source."""
        source = self.config["prompts"][prompts]["source"]
        return [f"results/tasks/{source['task']}/test.parquet"] if "task" in source else []

    def generation_slice(self) -> str:
        keys = ("backend", "max_new_tokens", "prompts")
        return dumps({key: self.config["evaluations"]["alpaca"][key] for key in keys})

    def alpaca_slice(self, model: str, recipe: str) -> str:
        """Who judges what against what; not how fast or where the judge is asked.

        Of a judge's settings also what decides which questions end without a verdict.
        """
        keys = ("attempts", "kind", "max_model_len", "model", "template", "top_logprobs")
        judge = {key: self.judge[key] for key in keys if key in self.judge}
        slice_ = {"judge": judge, "reference": self.reference(model), "runs": self.runs(recipe)}
        return dumps(slice_ | {"prompts": self.config["evaluations"]["alpaca"]["prompts"]})

    def task_files(self, suite: str) -> list[str]:
        """The files in a suite's own folder of tasks, if it has one."""
        folder = self.config["benchmark_suites"][suite]["folder"]
        return sorted(str(path) for path in Path(folder).glob("*.*")) if folder else []

    def suite_slice(self, suite: str) -> str:
        """What a suite's tasks are made of; titles, and what figures show, do not matter."""
        settings = self.config["benchmark_suites"][suite]
        own = {key: settings.get(key) for key in ("chat_template", "folder", "packages", "shots")}
        unseen = ("title", "metric")
        tasks = {
            name: {key: value for key, value in task.items() if key not in unseen}
            for name, task in settings["tasks"].items()
        }
        return dumps(own | {"tasks": tasks})

    def benchmarks_slice(self) -> str:
        """What is asked; titles, and which metric figures show, do not matter."""
        keys = ("backend", "chat_template", "limit", "shots")
        own = {key: self.suite[key] for key in keys}
        suite = self.config["evaluations"]["benchmarks"]["suite"]
        return dumps(own | {"suite": suite, "tasks": sorted(self.suite["tasks"])})

    def instruct_c4_slice(self, model: str) -> str:
        window = self.config["models"][model]["window"]
        return dumps(json.loads(self.c4_slice(model)) | {"window": window})

    def c4_slice(self, model: str) -> str:
        return dumps({"corpus": self.corpus_of(model)} | self.config["evaluations"]["c4"])

    def perturbation_slice(self, model: str) -> str:
        slice_ = json.loads(self.c4_slice(model)) | self.config["perturbation"]
        if self.study_of(model) == "released":
            settings = self.config["models"][model]
            slice_ |= {key: settings[key] for key in ("initialisation", "window")}
        return dumps(slice_)

    def sharpness_slice(self, model: str) -> str:
        return dumps({"corpus": self.corpus_of(model)} | self.config["sharpness"])

    def interpolation_slice(self, model: str, direction: str) -> str:
        """direction: gaussian or fine_tuning. Which panel shows a lambda does not matter."""
        settings = self.config["interpolation"]
        own = dict(settings[direction])
        lambdas = sorted({0.0, *map(float, own.pop("near") + own.pop("wide"))})
        slice_ = {"corpus": self.corpus_of(model), "lambdas": lambdas, "tokens": settings["tokens"]}
        return dumps(slice_ | own)

    def published_slice(self, source: str) -> str:
        """What the files are; where they come from does not matter, their hashes do."""
        settings = self.config["published"][source]
        return dumps({"files": settings["files"]})

    def reading_slice(self, source: str) -> str:
        settings = self.config[source]
        metrics = {name: e["metric"] for name, e in settings["evaluations"].items()}
        keys = ("model", "checkpoints", "tokens_per_step", "last_step")
        study = {key: settings[key] for key in keys}
        return dumps(study | {"metrics": metrics})

    def theory_slice(self, experiment: str) -> str:
        settings = self.config["theory"]
        shared = {key: settings[key] for key in ("features", "tau", "seeds")}
        return dumps(shared | settings[experiment])

    # --- targets ---

    def targets(self, kind: str, here: bool = False) -> Iterator[tuple[str, str]]:
        """(paper, target) of every figure or table; kind is "figures" or "tables".

        here: only those whose published numbers can be had.
        """
        for paper, own in self.config[kind].items():
            for target, settings in own.items():
                missing = settings.get("published") in self.absent and settings["source"] != "ours"
                if not (here and missing):
                    yield paper, target

    @cached_property
    def absent(self) -> dict[str, str]:
        """The published sources that are not here and not to be downloaded, and what to do."""
        return {
            source: f"the published numbers of {source} are not here and "
            f"published.{source}.download is false: set it, or name the folder that holds "
            f"{source}/ in OVERTRAIN_PUBLISHED"
            for source, settings in self.config["published"].items()
            if not settings["download"]
            and not published_copies(source, settings)
            and not Path("results/released_numbers", source).is_dir()
        }

    def target(self, paper: str, name: str) -> dict:
        """The settings of a figure or, where no figure has the name, of a table."""
        figures = self.config["figures"].get(paper, {})
        return figures[name] if name in figures else self.config["tables"][paper][name]

    def names(self, target: dict, key: str) -> list[str]:
        """The models or tasks of a target, its set's or its own list's."""
        names = target[key]
        return self.config[f"{key[:-1]}_sets"][names] if isinstance(names, str) else names

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
        for model in self.names(target, "models"):
            for checkpoint in self.shown(target, model):
                folder = f"results/measurements/{model}/{checkpoint.name}"
                if "tasks" not in target:
                    files.append(f"{folder}/{UNDER_NOISE[target['plot']]}.parquet")
                    continue
                for task in self.names(target, "tasks"):
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
        for model in self.names(target, "models"):
            for checkpoint in self.checkpoints(model):
                folder = f"results/measurements/{model}/{checkpoint.name}"
                yield from (f"{folder}/{stem}.parquet" for stem in of_base)
                for task in self.names(target, "tasks"):
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
            target["judge"] = self.judge["title"]
            target["reference"] = self.config["evaluations"]["alpaca"]["reference"]
        target["title"] = self.wording(target["title"], target)
        target["models"] = self.names(target, "models")
        titles = {name: self.config["models"][name]["title"] for name in target["models"]}
        if "tasks" in target:
            papers = self.paper_tasks.get(str(target["tasks"]), target["tasks"])
            target["tasks"] = self.names(target, "tasks")
            titles |= self.task_titles(target["tasks"], papers)
        corpora = {self.corpus_of(model) for model in target["models"]}
        texts = {self.config["corpora"][corpus]["title"] for corpus in corpora}
        more = {"scale": self.config["scale"], "text": " / ".join(sorted(texts)), "titles": titles}
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
        known = self.suite["tasks"] | own
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
            names = self.names(target, "models")
            words["models"] = ", ".join(self.config["models"][name]["title"] for name in names)
        if "tasks" in target:
            papers = self.paper_tasks.get(str(target["tasks"]), target["tasks"])
            titles = self.task_titles(self.names(target, "tasks"), papers).values()
            words["tasks"] = ", ".join(title.replace("\n", " ") for title in titles)
        return title.format_map(words)

    def index(self, paper: str, table: str) -> Iterator[tuple[dict, dict, list[str]]]:
        """(row, column, figures) of every cell of a table that is an index of a paper's figures.

        The figures are those that have all keys of the row's and the column's `match`, as they
        are written in the configuration.
        """
        figures = self.config["figures"][paper]
        target = self.config["tables"][paper][table]
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
            target["models"] = self.names(target, "models")
            printed = ("title", "architecture", "budgets", "seeds")
            target["model_settings"] = {
                m: {key: self.config["models"][m][key] for key in printed} for m in target["models"]
            }
            target["pretraining"] = self.config["pretraining"]
        elif "published" in target:
            return dumps(target | self.study_settings(target["published"]) | {"scale": None})
        elif target["content"] == "figure_index":
            target["cells"] = [found for _, _, found in self.index(paper, table)]
            for key in ("rows", "columns"):
                target[key] = [self.wording(e["title"], e["match"] or {}) for e in target[key]]
        elif target["content"] == "released_checkpoints":
            target["models"] = self.names(target, "models")
            target["model_settings"] = {
                m: {key: self.config["models"][m][key] for key in ("title", "hub")}
                for m in target["models"]
            }
        elif target["content"] == "instruction_tuning":
            target["tasks"] = self.names(target, "tasks")
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
        return dumps(target | {"scale": self.config["scale"]})

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

    def perturbation_resources(self, model: str) -> dict[str, int]:
        """A released model is hundreds of times larger than one that is pre-trained here."""
        released = self.study_of(model) == "released"
        return self.config["resources"]["perturb_released" if released else "perturb"]

    def runtime(self, model: str, checkpoint: str, attempt: int) -> int:
        """Minutes to ask for: 1.5 times what is expected, at most the rule's limit; it resumes."""
        settings, limits = self.config["models"][model], self.config["resources"]["pretrain"]
        expected = self.checkpoint(model, checkpoint).tokens / settings["tokens_per_second"] / 60
        return min(limits["runtime"], round(attempt * (30 + 1.5 * expected)))


def stood_for(task: dict) -> list[str]:
    """The tasks of the paper that a stand-in may stand for, the likest first."""
    names = task.get("stands_for", [])
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
