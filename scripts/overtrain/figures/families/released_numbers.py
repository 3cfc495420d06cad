"""Figures and tables of a study whose numbers its authors released, the same at every scale."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from overtrain.config import paths
from overtrain.config.errors import known
from overtrain.config.section import Distinct, Section, Text
from overtrain.figures.kind import Catalogue, Table, Target

if TYPE_CHECKING:
    from overtrain.config.models import Checkpoint
    from overtrain.config.studies import AmuroChar, OurTuning

Rate = Annotated[
    Literal["paper", "validation"],
    Field(description="Of our runs: the paper's learning rate, or the best on validation"),
]

Formats = Annotated[
    Distinct[Literal["default", "instruction", "input_output"]], Field(description="Task formats")
]


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
    rate: Rate = "paper"

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
        """Of each checkpoint: the base's, and those of the runs that the cells name."""
        ours = self.study_settings(catalogue).ours
        named = {cell.evaluation for cell in self.named_cells()}
        suites: dict[str, dict[str, Any]] = {"tasks": catalogue.task_suite.evaluations}
        suites["benchmarks"] = catalogue.suite_of(ours.model).tasks
        asked = [name for name, suite in suites.items() if named & suite.keys()]
        tuned = {cell.task for cell in self.named_cells() if cell.task and not self.of_base}
        found = []
        for point in catalogue.checkpoints(ours.model):
            found += [paths.of_checkpoint(point, name) for name in asked]
            for name, own in ours.tuned.items():
                if name in tuned:
                    found += files_of_runs(point, own, self.rate, asked, catalogue)
        return found

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        study = self.study_settings(catalogue)
        evaluations = {cell.evaluation for cell in self.named_cells()}
        prompts, shots = self.formats(), [study.shots, None]
        if self.source == "published":
            return {"evaluation": sorted(evaluations), "prompt": prompts, "shots": shots}
        # Of ours also benchmarks, which have shots of their own and no format, and what chooses a
        # rate. `as_shown` keeps of the published ones what the study shows.
        shots += [catalogue.task_suite.shots, catalogue.suite_of(study.ours.model).shots]
        chooses = {"id"} if self.rate == "validation" else set()
        return {
            "evaluation": sorted(evaluations | chooses),
            "prompt": [*prompts, None],
            "shots": list(dict.fromkeys(shots)),
            "metric": sorted({*self.metrics, "accuracy_norm"}),
        }

    def printed(self, catalogue: Catalogue) -> dict:
        study = self.study_settings(catalogue)
        own = study.plain()
        shown = {key: own[key] for key in ("checkpoints", "evaluations", "trained_on")}
        if self.source != "published":
            shown |= of_ours(study, self.rate, catalogue)
            if self.source == "ours":
                shown |= our_titles(study, catalogue)
                shown["checkpoints"] = shown["checkpoints_of"]["ours"]
            else:
                shown["checkpoints"] = all_checkpoints(study, catalogue)
        return super().printed(catalogue) | shown

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        """What our own runs need of the hub; every run is asked the whole suite."""
        if self.source == "published":
            return
        ours = self.study_settings(catalogue).ours
        yield "models", ours.model
        yield "corpora", catalogue.corpus_of(ours.model)
        yield "benchmark_suites", catalogue.suite_name(ours.model)
        tuned = [ours.tuned[cell.task].task for cell in self.named_cells() if cell.task]
        asked = [own.task for own in catalogue.task_suite.evaluations.values()]
        yield from (("tasks", task) for task in dict.fromkeys([*tuned, *asked]))

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
                    if key == "task" and name is not None and self.source != "published":
                        known(f"{where}: {key}", name, f"{self.study}.ours.tuned", study.ours.tuned)


# --- ours -----------------------------------------------------------------------------------------


def files_of_runs(
    point: Checkpoint, own: OurTuning, rate: str, asked: list[str], catalogue: Catalogue
) -> list[str]:
    """Of the runs on one checkpoint and task at the paper's rate, or at all to choose among.

    asked: tasks, benchmarks. Held-out text is the last link of a run's chain and always among them:
    after it the weights are given up.
    """
    every = rate == "validation" and catalogue.own_files(own.task)
    names = {*asked, "tasks"} if every else {*asked}  # the validation stands among the tasks
    chain = catalogue.evaluations_of_runs(own.task, own.recipe)
    files = [name for name in chain if name in names | {"c4"}]
    return [
        paths.of_run(point, own.task, own.recipe, run, file)
        for run, its in catalogue.runs(own.recipe).items()
        if every or its["learning_rate"] == own.learning_rate
        for file in files
    ]


def of_ours(study: AmuroChar, rate: str, catalogue: Catalogue) -> dict:
    """What `studies.amuro_char.as_shown` needs to know of our rows, and their scale."""
    tuned = {}
    for name, own in study.ours.tuned.items():
        metric = metric_of(own.task, catalogue) if catalogue.own_files(own.task) else None
        tuned[name] = own.plain() | {"validation": metric}
    points = [point.name for point in catalogue.checkpoints(study.ours.model)]
    return {
        "scale": catalogue.settings.scale,
        "shots": study.shots,
        "checkpoints_of": {"published": study.plain()["checkpoints"], "ours": points},
        "ours": {"rate": rate, "tuned": tuned, "metrics": metrics_of_ours(study, catalogue)},
    }


def metric_of(task: str, catalogue: Catalogue) -> str:
    """What a prompted task is scored by."""
    return "accuracy" if catalogue.prompted(task).choices else "rouge_l"


def metrics_of_ours(study: AmuroChar, catalogue: Catalogue) -> dict[str, str]:
    """The metric of our rows that stands for an evaluation of the study, of those run here."""
    prompted = {name: metric_of(own.task, catalogue) for name, own in asked_of(catalogue).items()}
    suite = catalogue.suite_of(study.ours.model).tasks
    found = prompted | {name: benchmark.metric for name, benchmark in suite.items()}
    return {name: metric for name, metric in found.items() if name in study.evaluations}


def asked_of(catalogue: Catalogue) -> dict[str, Any]:
    """The evaluations of the suite of prompted tasks."""
    return catalogue.task_suite.evaluations


def our_titles(study: AmuroChar, catalogue: Catalogue) -> dict[str, Any]:
    """Titles of our tasks and benchmarks in place of the paper's; a stand-in says for what."""
    tasks = catalogue.settings.tasks

    def title(task: str, papers: str) -> str:
        own, *_ = tasks[task].title.splitlines()
        original = papers.partition(" (")[0]  # without what is said of the published numbers
        return f"{own}\n(for {original})" if tasks[task].stands_for else own

    evaluations, trained_on = (study.plain()[key] for key in ("evaluations", "trained_on"))
    for name, own in asked_of(catalogue).items():
        if name in evaluations:
            evaluations[name]["title"] = title(own.task, evaluations[name]["title"])
    for name, benchmark in catalogue.suite_of(study.ours.model).tasks.items():
        if name in evaluations:
            evaluations[name]["title"] = benchmark.title
    trained_on |= {n: title(own.task, trained_on[n]) for n, own in study.ours.tuned.items()}
    return {"evaluations": evaluations, "trained_on": trained_on}


def all_checkpoints(study: AmuroChar, catalogue: Catalogue) -> list[str]:
    """Theirs and ours, in the order of their tokens; those of one name are one."""
    theirs = {name: study.tokens_of(name) for name in study.checkpoints}
    points = catalogue.checkpoints(study.ours.model)
    tokens = {point.name: point.tokens for point in points} | theirs
    return sorted(tokens, key=lambda name: tokens[name])


# --- what names cells -----------------------------------------------------------------------------


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
