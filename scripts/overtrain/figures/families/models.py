"""What names models, or tasks and a recipe; what is made of checkpoints, and of sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from overtrain import PipelineError
from overtrain.config import paths
from overtrain.config.check import check_stand_in
from overtrain.config.errors import known
from overtrain.config.models import Checkpoint
from overtrain.config.section import Distinct, Section, Text
from overtrain.figures.kind import Catalogue, Figure, Target
from overtrain.figures.titles import task_titles

Names = Annotated[Text | list[Text], Field(min_length=1)]
Quantity = Literal["absolute", "change"]


def all_known(where: str, names: str | list[str], kind: str, catalogue: Catalogue) -> None:
    """Raise PipelineError unless a set has the name `names`, or each of a list is there.

    kind: models or tasks.
    """
    section = kind if isinstance(names, list) else f"{kind[:-1]}_sets"
    for name in names if isinstance(names, list) else [names]:
        known(where, name, section, getattr(catalogue.settings, section))


class Tuning(NamedTuple):
    """A way to tune a checkpoint."""

    recipes: str  # the section of the configuration that holds its recipes
    kind: str | None  # of the tasks that it takes; None: all that no other way takes


FINE_TUNING = Tuning("recipes", None)
INSTRUCTION_TUNING = Tuning("instruction_recipes", "chat")
VISUAL_TUNING = Tuning("visual_recipes", "image_chat")
OF_RELEASED = (INSTRUCTION_TUNING.kind, VISUAL_TUNING.kind, "prompted")  # kinds of tasks


def check_tasks(where: str, names: str | list[str], tuning: Tuning, catalogue: Catalogue) -> None:
    """Tasks exist, and are of the kind that is tuned on so."""
    all_known(f"{where}.tasks", names, "tasks", catalogue)
    for name in catalogue.names("tasks", names):
        kind = catalogue.settings.tasks[name].kind
        shown = f"only tasks of kind {tuning.kind}" if tuning.kind else f"no tasks of kind {kind}"
        if kind != tuning.kind if tuning.kind else kind in OF_RELEASED:
            raise PipelineError(
                f"{where}.tasks names {name}, of kind {kind}; this one shows {shown}"
            )


class Models(Target):
    """Names models, of the studies that its kind shows."""

    studies: ClassVar[set[str]] = {"controlled"}

    models: Names = Field(description="A key of model_sets, or names of models")

    def check(self, where: str, catalogue: Catalogue) -> None:
        all_known(f"{where}.models", self.models, "models", catalogue)
        for name in catalogue.names("models", self.models):
            study = catalogue.study_of(name)
            if study not in self.studies:
                raise PipelineError(f"{where}.models names {name}, {self.not_shown(study)}")
            if study == "released":
                check_stand_in(name, catalogue)
        super().check(where, catalogue)

    def not_shown(self, study: str) -> str:
        if study == "controlled":
            return "which has no `hub`; this kind shows released models"
        from overtrain.figures.kinds import FIGURES

        kinds = sorted(n for n, k in FIGURES.items() if study in getattr(k, "studies", ()))
        return (
            f"a released model; only figures of the kinds {', '.join(kinds[:-1])} "
            f"and {kinds[-1]} show those"
        )


class Runs(Section):
    """Names tasks, and a recipe to tune on them."""

    tasks: Names = Field(description="A key of task_sets, or names of tasks")
    recipe: Text = Field(
        description="A key of recipes, of instruction_recipes or of visual_recipes"
    )


class Tasks(Runs, Target):
    """A figure or table of tasks and of what is tuned on them."""

    @property
    def tuning(self) -> Tuning:
        """How: it says where the recipe stands and which tasks there may be."""
        return FINE_TUNING

    def check(self, where: str, catalogue: Catalogue) -> None:
        check_tasks(where, self.tasks, self.tuning, catalogue)
        section = self.tuning.recipes
        known(f"{where}.recipe", self.recipe, section, getattr(catalogue.settings, section))
        super().check(where, catalogue)


class OfCheckpoints(Models):
    """A figure or table of every checkpoint of its models."""

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

    def printed(self, catalogue: Catalogue) -> dict:
        models = catalogue.names("models", self.models)
        corpora = {catalogue.corpus_of(model) for model in models}
        texts = {catalogue.settings.corpora[corpus].title for corpus in corpora}
        return super().printed(catalogue) | {
            "models": models,
            "text": " / ".join(sorted(texts)),
            "titles": self.titles(catalogue),
        }

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        for model in catalogue.names("models", self.models):
            yield "models", model
            yield "corpora", catalogue.corpus_of(model)


class OfSweeps(Tasks, OfCheckpoints):
    """A figure or table of every run of a recipe on each checkpoint and task."""

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


class InRows(OfSweeps, Figure):
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
