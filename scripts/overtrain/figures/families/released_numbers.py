"""Figures and tables of a study whose numbers its authors released, the same at every scale."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from overtrain.config import paths
from overtrain.config.errors import known
from overtrain.config.section import Distinct, Section, Text
from overtrain.figures.kind import Catalogue, Table, Target

OneSource = Annotated[Literal["published", "ours"], Field(description="Whose numbers")]


class OfStudy(Target):
    """Names a study of released numbers; it is the same at every scale."""

    scaled: ClassVar[bool] = False

    study: Text = Field(description="A key of released_numbers")

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        numbers = catalogue.settings.released_numbers
        known(f"{where}.study", self.study, "released_numbers", numbers)

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

    source: Literal["published", "ours", "both"] = Field(description="Whose numbers")

    @abstractmethod
    def named_cells(self) -> list[Cell]:
        """The scores that it names."""

    def formats(self) -> list[str]:
        """The formats of prompts that it shows."""
        return ["default"]

    def measurements(self, catalogue: Catalogue) -> list[str]:
        released = [paths.of_released_numbers(self.study)] if self.source != "ours" else []
        ours = self.files_of_ours(catalogue) if self.source != "published" else []
        return released + ours

    def files_of_ours(self, catalogue: Catalogue) -> list[str]:
        """Of each checkpoint: the base's, and those of the runs that the cells name.

        Held-out text is the last link of a run's chain and always among them: after it the weights
        are given up.
        """
        ours = self.study_settings(catalogue).ours
        tuned = {ours.tuned[cell.task] for cell in self.named_cells() if cell.task}
        found = []
        for point in catalogue.checkpoints(ours.model):
            found += [paths.of_checkpoint(point, name) for name in ("tasks", "benchmarks")]
            for own in ours.tuned.values():
                for run in catalogue.runs(own.recipe) if own in tuned else []:
                    files = ("tasks", "benchmarks", "c4")
                    found += [paths.of_run(point, own.task, own.recipe, run, f) for f in files]
        return found

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
                name = getattr(cell, key)
                if name is not None or not self.of_base:
                    names = getattr(study, section)
                    known(f"{where}: {key}", name, f"{self.study}.{section}", names)


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
