"""What each file depends on: other files, and its slice of the configuration.

Read by the Snakefile at every start and in every cluster job, so nothing here imports what is
heavy. A slice is exactly what a rule's result depends on, as one sorted JSON string; what of an
entry that is stands beside the entry's type (`slice` of a corpus, a task, a suite ...).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from overtrain.config import paths
from overtrain.config.benchmarks import Suite
from overtrain.config.corpora import HubCorpus
from overtrain.config.hub import CHECKPOINTS, is_local
from overtrain.config.judges import AnyJudge, OfTheHub
from overtrain.config.models import Checkpoint, ReleasedModel
from overtrain.config.recipes import InstructionRecipe, VisualRecipe
from overtrain.config.resources import Resources
from overtrain.config.section import dumps
from overtrain.config.settings import Settings
from overtrain.config.studies import ReleasedNumbers
from overtrain.config.task_suites import TaskSuite
from overtrain.config.tasks import Prompted
from overtrain.config.vision_suites import VisionSuite


def one_of(names: Iterable[str]) -> str:
    """A regular expression for any of `names`."""
    return "|".join(map(re.escape, names)) or "(?!)"  # which matches nothing


def copies_of(source: str, numbers: ReleasedNumbers) -> Path | None:
    """The folder with copies of a source's files: `local`, or in OVERTRAIN_RELEASED_NUMBERS."""
    for root in (numbers.local, os.environ.get("OVERTRAIN_RELEASED_NUMBERS")):
        if root and all(Path(root, source, name).is_file() for name in numbers.files):
            return Path(root, source)
    return None


# What runs of released models are measured on, by study. A chain: their weights are temporary.
EVALUATIONS = {
    "released": ("responses", "benchmarks", "c4"),
    "vision": ("vision", "benchmarks", "c4"),
    "amuro_char": ("tasks", "benchmarks", "c4"),
    "docstrings": ("programs", "c4"),
}


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

    def identity(self, model: str, checkpoint: str, recipe: str | None = None) -> dict:
        """The columns of a measurement that say which checkpoint it is of, and whose study's.

        recipe: of what is tuned, which says whose study's it is.
        """
        point = self.checkpoint(model, checkpoint)
        return {
            "study": self.study_of_runs(recipe) if recipe else self.study_of(model),
            "model": model,
            "checkpoint": checkpoint,
            "tokens": point.tokens,
            "pretraining_seed": point.seed,
        }

    def of_hub(self, corpus: str) -> HubCorpus:
        found = self.settings.corpora[corpus]
        assert isinstance(found, HubCorpus)
        return found

    def corpora_of_hub(self) -> str:
        """A regular expression for the names of corpora that are made in parts."""
        own = self.settings.corpora.items()
        return one_of(name for name, corpus in own if isinstance(corpus, HubCorpus))

    def shards(self, corpus: str) -> list[str]:
        """The folders with the shards of each part, in order; none of a corpus without parts."""
        return [f"results/shards/{corpus}/{part}" for part in self.settings.corpora[corpus].parts]

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

    # --- runs of instruction tuning and of visual tuning: a job each ---

    def recipe(self, name: str) -> InstructionRecipe | VisualRecipe:
        """A recipe of instruction tuning, or of visual tuning."""
        visual = self.settings.visual_recipes
        return visual[name] if name in visual else self.settings.instruction_recipes[name]

    def runs(self, recipe: str) -> dict[str, dict]:
        """Name of each run of a recipe, and its learning rate and seed."""
        return self.recipe(recipe).runs()

    def recipes_of(self, section: str) -> str:
        """A regular expression for the names of instruction_recipes or visual_recipes."""
        return one_of(getattr(self.settings, section))

    def runs_of(self, study: str) -> str:
        """A regular expression for the names of instruction_recipes whose runs are a study's."""
        own = self.settings.instruction_recipes.items()
        return one_of(name for name, recipe in own if recipe.study == study)

    def tasks_of(self, *kinds: str) -> str:
        """A regular expression for the names of tasks of these kinds."""
        return one_of(name for name, task in self.settings.tasks.items() if task.kind in kinds)

    def study_of_runs(self, recipe: str) -> str:
        """Whose study's the runs of a recipe are."""
        if recipe in self.settings.recipes:
            return "controlled"
        if recipe in self.settings.visual_recipes:
            return "vision"
        return self.settings.instruction_recipes[recipe].study

    def evaluations_of_runs(self, task: str, recipe: str) -> tuple[str, ...]:
        """What a run of a released model is measured on, each after the one before.

        "Amuro & Char" has benchmarks for instruction tuning alone.
        """
        chain = EVALUATIONS[self.study_of_runs(recipe)]
        if "tasks" in chain and isinstance(self.settings.tasks[task], Prompted):
            return tuple(name for name in chain if name != "benchmarks")
        return chain

    def tuned_by(self, recipe: str) -> str:
        """The rule that tunes a released model by a recipe."""
        visual = recipe in self.settings.visual_recipes
        return "finetune_vision" if visual else "finetune_instruct"

    def before(
        self, evaluation: str, model: str, checkpoint: str, task: str, recipe: str, run: str
    ) -> list[str]:
        """The file that a run's evaluation before this one leaves; none before the first."""
        chain = self.evaluations_of_runs(task, recipe)
        if not (place := chain.index(evaluation)):
            return []
        if (last := chain[place - 1]) == "responses":
            return [f"results/responses/{model}/{checkpoint}/{task}/{recipe}/{run}.parquet"]
        return [paths.of_run(self.checkpoint(model, checkpoint), task, recipe, run, last)]

    # --- visual tuning: a projector first, then language model and projector ---

    def visual(self, recipe: str) -> VisualRecipe:
        return self.settings.visual_recipes[recipe]

    def projector(self, model: str, checkpoint: str, recipe: str, run: str) -> str:
        """The folder of the projector that a run starts from."""
        name = self.visual(recipe).projector_of(run)
        return f"results/projectors/{model}/{checkpoint}/{recipe}/{name}"

    def encoder(self, recipe: str) -> str:
        """The folder of the encoder that a recipe joins to the models."""
        return f"results/encoders/{self.visual(recipe).encoder}"

    def captions(self, recipe: str) -> str:
        """The folder of the task that a recipe's projectors are trained on."""
        return f"results/tasks/{self.visual(recipe).alignment.task}"

    def encoders_of(self, kind: str) -> str:
        """A regular expression for the names of encoders of a kind: hub, or one made here."""
        own = self.settings.encoders.items()
        return one_of(name for name, encoder in own if encoder.kind == kind)

    @property
    def vision_suite(self) -> VisionSuite:
        return self.settings.vision_suites[self.settings.evaluations.vision.suite]

    def reference(self, model: str) -> dict:
        """Checkpoint, learning rate, seed and name of the run that AlpacaEval compares with."""
        run = self.settings.evaluations.alpaca.reference
        return run.plain() | {"checkpoint": self.released(model).reference, "run": run.name}

    def responses(self, model: str, checkpoint: str, task: str, recipe: str) -> list[str]:
        """The files with what each run of a sweep answered, in the order of `runs`."""
        folder = f"results/responses/{model}/{checkpoint}/{task}/{recipe}"
        return [f"{folder}/{run}.parquet" for run in self.runs(recipe)]

    def judged_responses(self, model: str, task: str, recipe: str) -> list[str]:
        """Those of the sweeps of all of a model's checkpoints, which are judged together."""
        return [
            file
            for checkpoint in self.checkpoints(model)
            for file in self.responses(model, checkpoint.name, task, recipe)
        ]

    def reference_responses(self, model: str, task: str, recipe: str) -> str:
        own = self.reference(model)
        return f"results/responses/{model}/{own['checkpoint']}/{task}/{recipe}/{own['run']}.parquet"

    def sized(self, stage: str, model: str) -> Resources:
        """The resources that a stage takes for a released model of its size."""
        return getattr(self.settings.resources, stage)[self.released(model).size]

    @property
    def suite(self) -> Suite:
        """The suite of benchmarks of models that name none."""
        return self.settings.benchmark_suites[self.settings.evaluations.benchmarks.suite]

    def suite_name(self, model: str) -> str:
        """The suite of benchmarks that a released model, and its runs, are measured on."""
        own = self.released(model).benchmark_suite
        return own or self.settings.evaluations.benchmarks.suite

    def suite_of(self, model: str) -> Suite:
        return self.settings.benchmark_suites[self.suite_name(model)]

    # --- prompted tasks ---

    @property
    def task_suite(self) -> TaskSuite:
        return self.settings.task_suites[self.settings.evaluations.tasks.suite]

    def prompted(self, task: str) -> Prompted:
        found = self.settings.tasks[task]
        assert isinstance(found, Prompted)
        return found

    def domain(self, task: str) -> str:
        """Of the tasks that share it all formats are asked after tuning on one of them."""
        return getattr(self.settings.tasks[task], "domain", None) or task

    def formats_asked(self, evaluation: str, task: str | None) -> list[str]:
        """The formats in which a base model (task None), or a run on a task, is asked."""
        asked = self.task_suite.evaluations[evaluation].task
        if task is None or self.domain(task) == self.domain(asked):
            return sorted(self.prompted(asked).formats)
        return ["default"]

    def asked_files(self, split: str) -> list[str]:
        """The files of a split of all tasks that the suite asks, each once."""
        named = {asked.task for asked in self.task_suite.evaluations.values()}
        return [f"results/tasks/{task}/{split}.parquet" for task in sorted(named)]

    def own_files(self, task: str) -> list[str]:
        """The splits of a run's own task that choose its rate: questions, and their examples.

        A chat has none that is scored so.
        """
        if not isinstance(self.settings.tasks[task], Prompted):
            return []
        return [f"results/tasks/{task}/{split}.parquet" for split in ("validation", "train")]

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

    def stands_in(self, model: str, checkpoint: str) -> list[str]:
        """The checkpoint trained here that stands in for a released one, if one does."""
        hub = self.released(model).hub
        if Path(hub.repository).parent != CHECKPOINTS:
            return []
        return [f"{hub.repository}/{hub.checkpoints[checkpoint].revision}"]

    # --- slices: what a result depends on ---

    def corpus_slice(self, corpus: str) -> str:
        return dumps(self.settings.corpora[corpus].slice())

    def tokenising_slice(self, corpus: str) -> str:
        return dumps(self.of_hub(corpus).tokenising_slice())

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
        own = self.settings.instruction_recipes[recipe]
        chat = {"template": own.template} if own.template else self.settings.chat.plain()
        return dumps({"chat": chat, "recipe": own.run_slice(run)})

    def visual_slice(self, recipe: str, run: str) -> str:
        """One run's settings, and the template that its language model's tokenizer gets."""
        own = self.visual(recipe).run_slice(run)
        return dumps({"chat": self.settings.chat.plain(), "recipe": own})

    def alignment_slice(self, recipe: str, projector: str) -> str:
        """One projector's settings."""
        return dumps({"recipe": self.visual(recipe).alignment_slice(projector)})

    def encoder_slice(self, encoder: str) -> str:
        return dumps(self.settings.encoders[encoder].slice())

    def vision_suite_slice(self, suite: str) -> str:
        return dumps(self.settings.vision_suites[suite].slice())

    def vision_slice(self, recipe: str) -> str:
        """What a run is asked, and how: by the recipe's template and layer of the encoder."""
        own = self.visual(recipe)
        asked = self.vision_suite.asked_slice() | {"suite": self.settings.evaluations.vision.suite}
        return dumps(asked | {"template": own.template, "layer": own.layer})

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

    def benchmarks_slice(self, model: str) -> str:
        return dumps(self.suite_of(model).asked_slice() | {"suite": self.suite_name(model)})

    def tasks_slice(self, task: str | None = None) -> str:
        """What a base model (task None), or a run on a task, is asked: by evaluation."""
        asked = {
            name: {
                "task": own.task,
                "formats": self.formats_asked(name, task),
                "new_tokens": self.prompted(own.task).new_tokens,
            }
            for name, own in self.task_suite.evaluations.items()
        }
        own = {}
        if task and isinstance(found := self.settings.tasks[task], Prompted):
            own = {"own": {"task": task, "new_tokens": found.new_tokens}}
        return dumps(self.task_suite.asked_slice() | {"evaluations": asked} | own)

    def programs_slice(self, task: str, recipe: str) -> str:
        """How a base model, or a run of a recipe on a task, is asked for programs."""
        found, own = self.prompted(task), self.settings.instruction_recipes[recipe]
        program = found.program
        return dumps(
            {
                "questions": self.settings.evaluations.programs.questions,
                "new_tokens": found.new_tokens,
                "begins": program.begins if program else "answer",
                "template": own.template or self.settings.chat.template,
                "max_length": own.max_length,
            }
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

    def on_text_slice(self, section: str, model: str) -> str:
        """A section of settings (sharpness ...) for what is measured on a model's held-out text."""
        return dumps({"corpus": self.corpus_of(model)} | getattr(self.settings, section).plain())

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
