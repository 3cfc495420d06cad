"""What each file depends on: other files, and its slice of the configuration.

Read by the Snakefile at every start and in every cluster job, so it imports nothing but the
standard library. A slice is exactly what a rule's result depends on, as one sorted JSON string:
Snakemake compares parameters by their text, and an overlay may permute keys.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


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


def published_copies(source: str, settings: dict) -> Path | None:
    """The folder that holds copies of a source's files: `local`, or one in OVERTRAIN_PUBLISHED."""
    for root in (settings["local"], os.environ.get("OVERTRAIN_PUBLISHED")):
        if root and all(Path(root, source, name).is_file() for name in settings["files"]):
            return Path(root, source)
    return None


class Catalogue:
    """The checked configuration, as the rules ask for it."""

    def __init__(self, config: dict):
        self.config = json.loads(json.dumps(config))  # plain dictionaries, whatever the loader gave

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

    def corpus_of(self, model: str) -> str:
        return self.config["models"][model]["corpus"]

    def study_of(self, model: str) -> str:
        """Models pre-trained here are the controlled study's, the hub's the released one's."""
        return "released" if "hub" in self.config["models"][model] else "controlled"

    def models_of(self, study: str) -> str:
        """A regular expression for the names of a study's models."""
        names = [re.escape(m) for m in self.config["models"] if self.study_of(m) == study]
        return "|".join(names) or "(?!)"  # which matches nothing

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

    def sweep_slice(self, task: str, recipe: str) -> str:
        """A recipe, and what a task's settings, beside its examples, say about training."""
        settings = self.config["tasks"][task]
        training = {key: settings[key] for key in ("kind", "loss_on") if key in settings}
        return dumps({"recipe": self.config["recipes"][recipe], "task": training})

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
            and not Path("results/published", source).is_dir()
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
        needed = {row["evaluation"] for row in target["rows"]}
        if plot == "tuned_by_tokens":
            needed.add("id")  # holds the validation scores that choose the rate
        if "largest_loss" in target:
            needed.add("c4")
        return sorted(needed)

    def measurements(self, paper: str, figure: str) -> list[str]:
        """The measurement files that one figure is made of: its own slice and nothing else."""
        target = self.target(paper, figure)
        if "published" in target:
            published = [f"results/measurements/published/{target['published']}.parquet"]
            ours = self.config[target["published"]]["measurements"]
            sources = {"published": published, "ours": ours, "both": published + ours}
            return sources[target["source"]]
        if "experiment" in target:
            return [f"results/measurements/theory/{target['experiment']}.parquet"]
        files = []
        for model in self.names(target, "models"):
            for checkpoint in self.checkpoints(model):
                folder = f"results/measurements/{model}/{checkpoint.name}"
                if "tasks" not in target:
                    kind = "sharpness" if target["plot"] == "sharpness_by_tokens" else "gaussian"
                    files.append(f"{folder}/{kind}.parquet")
                    continue
                for task in self.names(target, "tasks"):
                    for evaluation in self.evaluations(target):
                        files.append(f"{folder}/{task}/{target['recipe']}/{evaluation}.parquet")
        return files

    def aggregate_slice(self, paper: str, figure: str) -> str:
        """What an aggregate depends on beside its measurements: which they are, what for."""
        target = self.target(paper, figure)
        plot = target["plot"] if "plot" in target else target["content"]
        files = self.measurements(paper, figure)
        return dumps({"measurements": files, "only": self.only(target), "plot": plot})

    def only(self, target: dict) -> dict[str, list]:
        """The evaluations, prompts and shots that a target of published numbers shows."""
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
        if "experiment" in target:  # the same at every scale
            if "spectra" in target:
                target["ratios"] = self.config["theory"]["fine_tuning"]["spectra"]
            return dumps(target | {"scale": None})
        if "published" in target:
            return dumps(target | self.study_settings(target["published"]) | {"scale": None})
        titles = {}
        for key in ("models", "tasks"):
            if key in target:
                target[key] = self.names(target, key)
                titles |= {name: self.title(key, name) for name in target[key]}
        corpora = {self.corpus_of(model) for model in target["models"]}
        texts = {self.config["corpora"][corpus]["title"] for corpus in corpora}
        more = {"scale": self.config["scale"], "text": " / ".join(sorted(texts)), "titles": titles}
        return dumps(target | more)

    def study_settings(self, study: str) -> dict:
        """What the targets of a study of published checkpoints print: order, titles, units."""
        settings = self.config[study]
        return {
            "checkpoints": settings["checkpoints"],
            "evaluations": settings["evaluations"],
            "trained_on": settings["trained_on"],
        }

    def title(self, section: str, name: str) -> str:
        """A model's or task's name in figures; a stand-in says what it stands for."""
        settings = self.config[section][name]
        if "stands_for" not in settings:
            return settings["title"]
        return f"{settings['title']}\n(for {self.title(section, settings['stands_for'])})"

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
        elif target["content"] in ("study_tasks", "study_prompts"):
            study = self.config[target["study"]]
            printed = {key: study[key] for key in ("evaluations", "trained_on")}
            printed["tasks"] = list(study["tasks"].values())  # in the order of the paper
            return dumps(target | {"study": printed, "scale": None})
        else:
            target["recipe_settings"] = {r: self.config["recipes"][r] for r in target["recipes"]}
        return dumps(target | {"scale": self.config["scale"]})

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
