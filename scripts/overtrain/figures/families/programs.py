"""Figures of the programs that tuned models write: how many still hold a docstring (the blog)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config import paths
from overtrain.config.models import Checkpoint
from overtrain.figures.families.models import OfSweeps, Tuning
from overtrain.figures.kind import Catalogue, Figure

STUDY = "docstrings"  # whose runs these are


class OfPrograms(OfSweeps, Figure):
    """A figure of the runs of one recipe of the study `docstrings`, and of their bases."""

    studies: ClassVar[set[str]] = {"released"}
    metrics: ClassVar[set[str]] = {"docstring_share", "loss"}
    selections: ClassVar[set[str]] = {"base", "last"}
    evaluation: ClassVar[str] = "programs"

    checkpoints: Literal["all", "last"] = Field(
        "all", description="Of each model: all, or the one with the most tokens"
    )

    def shown(self, model: str, catalogue: Catalogue) -> list[Checkpoint]:
        found = super().shown(model, catalogue)
        return found[-1:] if self.checkpoints == "last" else found

    @property
    def tuning(self) -> Tuning:
        return Tuning("instruction_recipes", "prompted")

    def files(self, checkpoint: Checkpoint, catalogue: Catalogue) -> Iterator[str]:
        """What the base writes in each task, and what each run does.

        Held-out text is not drawn, but the last link of a run's chain: after it the weights are
        given up, and a figure that came later would find them gone.
        """
        for task in catalogue.names("tasks", self.tasks):
            yield paths.of_sweep(checkpoint, task, self.recipe, self.evaluation)
            for run in catalogue.runs(self.recipe):
                for evaluation in (self.evaluation, "c4"):
                    yield paths.of_run(checkpoint, task, self.recipe, run, evaluation)

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        """What is not held-out text: the programs, and the validation loss that chooses a rate."""
        return {"evaluation": ["id", self.evaluation]}

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        own = catalogue.settings.instruction_recipes
        if own[self.recipe].study != STUDY:
            names = ", ".join(name for name, recipe in own.items() if recipe.study == STUDY)
            raise PipelineError(
                f"{where}.recipe is {self.recipe!r}, a recipe of the study "
                f"{own[self.recipe].study}; this kind shows those of {STUDY}: {names or 'none'}"
            )
        for name in catalogue.names("tasks", self.tasks):
            if catalogue.prompted(name).program is None:
                raise PipelineError(
                    f"{where}.tasks names {name}, whose answers are no programs "
                    f"(tasks.{name}.program is null)"
                )
