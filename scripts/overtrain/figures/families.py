"""What kinds of figures and tables share: keys, files that they are made of, checks, slices.

Models              names models
Tasks               names tasks and a recipe
OfCheckpoints       a figure of models' checkpoints
OfSweeps            a figure of the runs of a recipe on tasks
OfInstructionRuns   a figure of scores of released models after instruction tuning
OfTheory            a figure of simulated linear networks
OfSpectra           ... of those that are fine-tuned
OfStudy             names a study of released numbers
StudyTable          a table of what it fine-tunes on and evaluates
OfReleasedNumbers   shows scores of such a study
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config import paths
from overtrain.config.check import check_stand_in
from overtrain.config.errors import known, near
from overtrain.config.evaluations import NOT_BENCHMARKS, OverlapJudge, PromptsOfTask
from overtrain.config.section import Distinct, Section, Text
from overtrain.figures.kind import Figure, Table, Target
from overtrain.figures.titles import check_filled, filled, task_titles

if TYPE_CHECKING:
    from overtrain.config.catalogue import Catalogue, Checkpoint

Names = Text | Annotated[list[Text], Field(min_length=1)]
Quantity = Literal["absolute", "change"]
Penalty = Annotated[int | float, Field(ge=0)]  # whole numbers stay so, in the CSV as in YAML
OneSource = Literal["published", "ours"]
AnySource = Literal["published", "ours", "both"]


def all_known(where: str, names: str | list[str], kind: str, catalogue: Catalogue) -> None:
    """Raise PipelineError unless a set has the name `names`, or each of a list is there.

    kind: models or tasks.
    """
    section = kind if isinstance(names, list) else f"{kind[:-1]}_sets"
    for name in names if isinstance(names, list) else [names]:
        known(where, name, section, getattr(catalogue.settings, section))


def check_tasks(
    where: str, names: str | list[str], conversations: bool, catalogue: Catalogue
) -> None:
    """Tasks exist; conversations are for instruction tuning, and nothing else is."""
    all_known(f"{where}.tasks", names, "tasks", catalogue)
    for name in catalogue.names("tasks", names):
        kind = catalogue.settings.tasks[name].kind
        if conversations != (kind == "chat"):
            raise PipelineError(
                f"{where}.tasks names {name}, of kind {kind}; "
                f"this one shows {'only' if conversations else 'no'} tasks of kind chat"
            )


class Models(Target):
    """Names models, of the studies that its kind shows."""

    studies: ClassVar[set[str]] = {"controlled"}

    models: Names = Field(description="A key of model_sets, or names of models")

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        all_known(f"{where}.models", self.models, "models", catalogue)
        for name in catalogue.names("models", self.models):
            study = catalogue.study_of(name)
            if study not in self.studies:
                raise PipelineError(f"{where}.models names {name}, {self.not_shown(study)}")
            if study == "released":
                check_stand_in(name, catalogue)

    def not_shown(self, study: str) -> str:
        if study == "controlled":
            return "which has no `hub`; this kind shows released models"
        from overtrain.figures.kinds import FIGURES

        kinds = sorted(n for n, k in FIGURES.items() if study in getattr(k, "studies", ()))
        return (
            f"a released model; only figures of the kinds {', '.join(kinds[:-1])} "
            f"and {kinds[-1]} show those"
        )


class Tasks(Target):
    """Names tasks and a recipe to fine-tune on them, or to tune on conversations."""

    conversations: ClassVar[bool] = False

    tasks: Names = Field(description="A key of task_sets, or names of tasks")
    recipe: Text = Field(description="A key of recipes, or of instruction_recipes")

    def check(self, where: str, catalogue: Catalogue) -> None:
        check_tasks(where, self.tasks, self.conversations, catalogue)
        section = "instruction_recipes" if self.conversations else "recipes"
        known(f"{where}.recipe", self.recipe, section, getattr(catalogue.settings, section))
        super().check(where, catalogue)


class OfCheckpoints(Models, Figure):
    """A figure of every checkpoint of its models."""

    evaluation: ClassVar[str]  # the stem of a checkpoint's file that it reads

    def shown(self, model: str, catalogue: Catalogue) -> list[Checkpoint]:
        """The checkpoints of a model that it shows."""
        return catalogue.checkpoints(model)

    def files(self, checkpoint: Checkpoint, catalogue: Catalogue) -> Iterator[str]:
        """The measurement files of one checkpoint that it is made of."""
        yield paths.of_checkpoint(checkpoint, self.evaluation)

    def measurements(self, catalogue: Catalogue) -> list[str]:
        return [
            file
            for model in catalogue.names("models", self.models)
            for checkpoint in self.shown(model, catalogue)
            for file in self.files(checkpoint, catalogue)
        ]

    def titles(self, catalogue: Catalogue) -> dict[str, str]:
        """What panels call the models, and whatever else has a title."""
        models = catalogue.names("models", self.models)
        return {name: catalogue.settings.models[name].title for name in models}

    def named(self) -> dict[str, Any]:
        """What its title may name."""
        own = self.plain()
        return {key: own[key] for key in ("models", "tasks", "recipe") if key in own}

    def printed(self, catalogue: Catalogue) -> dict:
        models = catalogue.names("models", self.models)
        corpora = {catalogue.corpus_of(model) for model in models}
        texts = {catalogue.settings.corpora[corpus].title for corpus in corpora}
        return super().printed(catalogue) | {
            "title": filled(self.title, self.named(), catalogue),
            "models": models,
            "text": " / ".join(sorted(texts)),
            "titles": self.titles(catalogue),
        }

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        for model in catalogue.names("models", self.models):
            yield "models", model
            yield "corpora", catalogue.corpus_of(model)

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        check_filled(f"{where}.title", self.title, self.named(), catalogue)


class OfSweeps(Tasks, OfCheckpoints):
    """A figure of every run of a recipe on each checkpoint and task."""

    def evaluations(self) -> list[str]:
        """The stems of a sweep's files that it reads."""
        return [self.evaluation]

    def files(self, checkpoint: Checkpoint, catalogue: Catalogue) -> Iterator[str]:
        for task in catalogue.names("tasks", self.tasks):
            for evaluation in self.evaluations():
                yield paths.of_sweep(checkpoint, task, self.recipe, evaluation)

    def titles(self, catalogue: Catalogue) -> dict[str, str]:
        return super().titles(catalogue) | task_titles(self.tasks, catalogue)

    def printed(self, catalogue: Catalogue) -> dict:
        tasks = catalogue.names("tasks", self.tasks)
        return super().printed(catalogue) | {"tasks": tasks}

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        yield from super().sources(catalogue)
        for task in catalogue.names("tasks", self.tasks):
            yield "tasks", task


class Row(Section):
    """A row of panels."""

    evaluation: Literal["c4", "id"]
    quantity: Quantity


class InRows(OfSweeps):
    """A figure of perplexities: a row of panels for each evaluation and quantity."""

    rows: Distinct[Row] = Field(description="Rows of panels, top to bottom")

    def evaluations(self) -> list[str]:
        return self.in_rows()

    def in_rows(self) -> list[str]:
        """The evaluations that it shows; a choice among its runs may read more."""
        return sorted({row.evaluation for row in self.rows})

    def statistics(self, catalogue: Catalogue) -> dict | None:
        settings = super().statistics(catalogue)
        return settings and settings | {"evaluations": self.in_rows()}


class Panel(Section):
    """A panel of scores after instruction tuning."""

    title: Text | None = Field(None, description="Above the panel; the evaluation's without it")
    evaluations: Distinct[
        Annotated[Text, Field(description="alpaca, c4, or a benchmark of the suite")]
    ] = Field(description="Their mean is shown")


class OfInstructionRuns(OfSweeps):
    """A figure of scores of released models before and after instruction tuning."""

    studies: ClassVar[set[str]] = {"released"}
    conversations: ClassVar[bool] = True
    metrics: ClassVar[set[str]] = {
        "accuracy",
        "accuracy_norm",
        "win_rate",
        "length_controlled_win_rate",
        "perplexity",
    }
    selections: ClassVar[set[str]] = {"base", "last"}
    chooses: ClassVar[bool]  # whether it shows runs of the learning rate that wins most

    panels: list[Panel] = Field(min_length=1, description="Panels, left to right")
    token_axis: Literal["log", "linear"] = Field(description="Scale of the pre-training tokens")

    def evaluations(self) -> list[str]:
        return sorted({name for panel in self.panels for name in panel.evaluations})

    def files(self, checkpoint: Checkpoint, catalogue: Catalogue) -> Iterator[str]:
        """Those of the runs, and of their base.

        Held-out text is the last link of a run's chain and always among them: a figure that came
        later would find the weights gone.
        """
        shown = self.evaluations()
        benchmarks = any(name not in NOT_BENCHMARKS for name in shown)
        if benchmarks:
            yield paths.of_checkpoint(checkpoint, "benchmarks")
        if "c4" in shown:
            yield paths.of_checkpoint(checkpoint, "c4")
        for task in catalogue.names("tasks", self.tasks):
            if "alpaca" in shown or self.chooses:
                yield paths.of_sweep(checkpoint, task, self.recipe, "alpaca")
            for run in catalogue.runs(self.recipe):
                for evaluation in ["benchmarks", "c4"] if benchmarks else ["c4"]:
                    yield paths.of_run(checkpoint, task, self.recipe, run, evaluation)

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        return {"evaluation": sorted({*self.evaluations(), "alpaca"})}

    def printed(self, catalogue: Catalogue) -> dict:
        alpaca = catalogue.settings.evaluations.alpaca
        shows = {
            "alpaca": (catalogue.settings.prompts[alpaca.prompts].title, alpaca.metric),
            "c4": ("held-out text", "perplexity"),
            **{name: (task.title, task.metric) for name, task in catalogue.suite.tasks.items()},
        }
        shown = sorted({*self.evaluations(), "alpaca"})
        return super().printed(catalogue) | {
            "evaluations": {
                name: dict(zip(("title", "metric"), shows[name], strict=True)) for name in shown
            },
            "judge": catalogue.judge.title,
            "reference": alpaca.reference.plain(),
        }

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        yield from super().sources(catalogue)
        own = catalogue.settings.evaluations
        yield "prompts", own.alpaca.prompts
        yield "judges", own.alpaca.judge
        yield "benchmark_suites", own.benchmarks.suite

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        self.check_panels(where, catalogue)
        self.check_judge(catalogue)
        self.check_runs(where, catalogue)

    def check_panels(self, where: str, catalogue: Catalogue) -> None:
        """Panels show what is measured."""
        measured = [*NOT_BENCHMARKS, *catalogue.suite.tasks]
        for name in self.evaluations():
            if name not in measured:
                raise PipelineError(
                    f"{where}.panels has {name!r}, not in the suite "
                    f"{catalogue.settings.evaluations.benchmarks.suite}{near(name, measured)}"
                )
        for panel in self.panels:
            alone = [name for name in panel.evaluations if name in NOT_BENCHMARKS]
            if alone and len(panel.evaluations) > 1:
                raise PipelineError(
                    f"{where}.panels takes a mean of {', '.join(panel.evaluations)}; "
                    f"{alone[0]} is no accuracy and needs a panel of its own"
                )

    def check_judge(self, catalogue: Catalogue) -> None:
        """A judge that compares with known answers needs prompts that have some."""
        alpaca = catalogue.settings.evaluations.alpaca
        source = catalogue.settings.prompts[alpaca.prompts].source
        if isinstance(catalogue.judge, OverlapJudge) and not isinstance(source, PromptsOfTask):
            raise PipelineError(
                f"evaluations.alpaca.judge is {alpaca.judge!r}, of kind overlap, which needs "
                f"prompts with known answers; {alpaca.prompts!r} has none"
            )

    def check_runs(self, where: str, catalogue: Catalogue) -> None:
        """A batch is whole micro-batches, and a win rate needs the run that it compares with."""
        batch_size = catalogue.settings.instruction_recipes[self.recipe].batch_size
        for model in catalogue.names("models", self.models):
            own = catalogue.sized("finetune_instruct", model)
            together = own.micro_batch * max(1, own.gpu)
            if batch_size % together:
                raise PipelineError(
                    f"instruction_recipes.{self.recipe}.batch_size is {batch_size}; it must be a "
                    f"multiple of micro_batch x gpu of resources.finetune_instruct for {model} "
                    f"({own.micro_batch} x {max(1, own.gpu)})"
                )
        reference = catalogue.settings.evaluations.alpaca.reference.plain()
        runs = catalogue.runs(self.recipe)
        if reference not in list(runs.values()):
            raise PipelineError(
                f"evaluations.alpaca.reference is {json.dumps(reference)}, which the recipe "
                f"{self.recipe!r} of {where} does not run; it runs {', '.join(runs)}"
            )


class OfTheory(Figure):
    """A figure of an experiment with linear networks, the same at every scale.

    A kind adds `experiment`, a key of `theory`.
    """

    selections: ClassVar[set[str]] = {"simulated", "closed_form"}
    scaled: ClassVar[bool] = False

    experiment: Text

    def measurements(self, catalogue: Catalogue) -> list[str]:
        return [paths.of_theory(self.experiment)]


class OfSpectra(OfTheory):
    """A figure of fine-tuned linear networks: some of the spectra and penalties."""

    experiment: Literal["fine_tuning"]
    spectra: Distinct[Text] = Field(description="Keys of theory.fine_tuning.spectra")
    lambdas: Distinct[Penalty] = Field(description="Some of theory.fine_tuning.lambdas")

    def printed(self, catalogue: Catalogue) -> dict:
        spectra = catalogue.settings.theory.fine_tuning.spectra
        return super().printed(catalogue) | {"ratios": spectra}

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        for name in self.spectra:
            self.check_spectrum(f"{where}.spectra", name, catalogue)
        simulated = catalogue.settings.theory.fine_tuning.lambdas
        for penalty in self.lambdas:
            if penalty not in simulated:
                raise PipelineError(
                    f"{where}.lambdas has {penalty:g}, not in theory.fine_tuning.lambdas; "
                    f"allowed: {', '.join(f'{own:g}' for own in simulated)}"
                )

    def check_spectrum(self, where: str, name: str, catalogue: Catalogue) -> None:
        simulated = catalogue.settings.theory.fine_tuning.spectra
        if name not in simulated:
            raise PipelineError(
                f"{where} has {name!r}, not in theory.fine_tuning.spectra{near(name, simulated)}"
            )


class OfStudy(Target):
    """Names a study of released numbers; it is the same at every scale."""

    scaled: ClassVar[bool] = False

    study: Text = Field(description="A key of released_numbers")

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        numbers = catalogue.settings.released_numbers
        if self.study not in numbers:
            raise PipelineError(
                f"{where}.study is {self.study!r}, which is no study of released numbers"
                f"{near(self.study, numbers)}"
            )

    def study_settings(self, catalogue: Catalogue) -> Any:
        """The study's section of the configuration."""
        return getattr(catalogue.settings, self.study)


class StudyTable(OfStudy, Table):
    """What a study fine-tunes on and evaluates."""

    def printed(self, catalogue: Catalogue) -> dict:
        study = self.study_settings(catalogue).plain()
        shown = {key: study[key] for key in ("evaluations", "trained_on")}
        tasks = list(study["tasks"].values())  # in the order of the paper
        return super().printed(catalogue) | shown | {"tasks": tasks}


class Cell(Section):
    """A score of a study."""

    task: Text | None = Field(description="Fine-tuning data, or null for the base model")
    evaluation: Text


class Group(Section):
    """Scores that are shown together."""

    title: Text
    cells: list[Cell] = Field(min_length=1)


class OfReleasedNumbers(OfStudy):
    """Shows scores of a study of released numbers, theirs or ours."""

    metrics: ClassVar[set[str]] = {"accuracy", "rouge_l"}
    selections: ClassVar[set[str]] = {"base", "last"}
    of_base: ClassVar[bool] = False  # whether it shows base models alone, which have no task

    source: AnySource = Field(description="Whose numbers")

    def named_cells(self) -> list[Cell]:
        """The scores that it names."""
        raise NotImplementedError

    def formats(self) -> list[str]:
        """The formats of prompts that it shows."""
        return ["default"]

    def measurements(self, catalogue: Catalogue) -> list[str]:
        released = [paths.of_released_numbers(self.study)]
        ours = list(self.study_settings(catalogue).measurements)
        return {"published": released, "ours": ours, "both": released + ours}[self.source]

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        return {
            "evaluation": sorted({cell.evaluation for cell in self.named_cells()}),
            "prompt": self.formats(),
            "shots": [self.study_settings(catalogue).shots, None],
        }

    def printed(self, catalogue: Catalogue) -> dict:
        study = self.study_settings(catalogue).plain()
        shown = ("checkpoints", "evaluations", "trained_on")
        return super().printed(catalogue) | {key: study[key] for key in shown}

    def here(self, catalogue: Catalogue) -> bool:
        return self.source == "ours" or self.study not in catalogue.absent

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        study = self.study_settings(catalogue)
        for cell in self.named_cells():
            for key, section in (("task", "trained_on"), ("evaluation", "evaluations")):
                name, names = getattr(cell, key), getattr(study, section)
                if name not in names and not (name is None and self.of_base):
                    raise PipelineError(
                        f"{where}: {key} {name!r} is not in {self.study}.{section}"
                        f"{near(name, names)}"
                    )
        if self.source != "published" and not study.measurements:
            raise PipelineError(
                f"{where}.source is {self.source!r}; "
                f"{self.study}.measurements names no file of ours"
            )


class InCells(OfReleasedNumbers):
    """Scores side by side."""

    cells: list[Cell] = Field(min_length=1)

    def named_cells(self) -> list[Cell]:
        return self.cells


class InGroups(OfReleasedNumbers):
    """Scores by group."""

    groups: list[Group] = Field(min_length=1)

    def named_cells(self) -> list[Cell]:
        return [cell for group in self.groups for cell in group.cells]


class Direction(Section):
    """Fine-tuning data of one type, and evaluations of another."""

    title: Text
    tasks: Distinct[Text]
    evaluations: Distinct[Text]


class InDirections(OfReleasedNumbers):
    """Ratios of change across task types (section 6.2)."""

    directions: list[Direction] = Field(min_length=1)

    def named_cells(self) -> list[Cell]:
        return [
            Cell(task=task, evaluation=evaluation)
            for direction in self.directions
            for task in direction.tasks
            for evaluation in direction.evaluations
        ]
