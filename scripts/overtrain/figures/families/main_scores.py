"""Scores that are tuned for: each is the main one of figures, and chooses their learning rate.

alpaca is AlpacaEval's win rate, of instruction tuning; vlm the mean of a suite of vision
benchmarks, of visual tuning. `MAIN_SCORES` has them by the value of a figure's `main`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from overtrain import PipelineError
from overtrain.config import paths
from overtrain.config.judges import OverlapJudge, PromptsOfTask
from overtrain.config.models import Checkpoint
from overtrain.config.resources import OfTuning
from overtrain.figures.families.models import INSTRUCTION_TUNING, VISUAL_TUNING, Tuning
from overtrain.figures.kind import Catalogue


class MainScore(ABC):
    tuning: ClassVar[Tuning]  # after which it is measured
    metrics: ClassVar[set[str]]  # its own, and those of its parts

    @abstractmethod
    def shows(self, catalogue: Catalogue) -> dict[str, tuple[str, str]]:
        """Title and metric of it and, where it is a mean, of its parts, by evaluation."""

    def suites(self, catalogue: Catalogue) -> list[str]:
        """The suites that its parts are of."""
        return []

    def printed(self, catalogue: Catalogue) -> dict:
        """What figures say of it beside titles."""
        return {}

    @abstractmethod
    def sources(self, recipe: str, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        """(section, name) of what it needs of the hub, or runs of the recipe do."""

    def files_of_run(
        self, checkpoint: Checkpoint, task: str, recipe: str, run: str
    ) -> Iterator[str]:
        """The measurement files of one run that it stands in."""
        yield from ()

    def files_of_model(self, model: str, task: str, recipe: str) -> Iterator[str]:
        """The files that it stands in for the runs of all checkpoints together."""
        yield from ()

    @abstractmethod
    def check(self, where: str, models: list[str], recipe: str, catalogue: Catalogue) -> None:
        """Raise PipelineError if it cannot be had of the recipe's runs on the models."""


class WinRate(MainScore):
    """Against one fixed run, whose own rows are of the selection "reference"."""

    tuning = INSTRUCTION_TUNING
    metrics: ClassVar[set[str]] = {"win_rate", "length_controlled_win_rate"}

    def shows(self, catalogue: Catalogue) -> dict[str, tuple[str, str]]:
        own = catalogue.settings.evaluations.alpaca
        return {"alpaca": (catalogue.settings.prompts[own.prompts].title, own.metric)}

    def printed(self, catalogue: Catalogue) -> dict:
        reference = catalogue.settings.evaluations.alpaca.reference.plain()
        return {"judge": catalogue.judge.title, "reference": reference}

    def sources(self, recipe: str, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        own = catalogue.settings.evaluations.alpaca
        yield "prompts", own.prompts
        yield "judges", own.judge

    def files_of_model(self, model: str, task: str, recipe: str) -> Iterator[str]:
        yield paths.of_sweeps(model, task, recipe, "alpaca")

    def check(self, where: str, models: list[str], recipe: str, catalogue: Catalogue) -> None:
        self.check_judge(catalogue)
        own = catalogue.settings.instruction_recipes[recipe]
        where_batch = f"instruction_recipes.{recipe}.batch_size"
        check_batch(where_batch, own.batch_size, "finetune_instruct", models, catalogue)
        self.check_reference(where, recipe, catalogue)

    def check_judge(self, catalogue: Catalogue) -> None:
        """A judge that compares with known answers needs prompts that have some."""
        alpaca = catalogue.settings.evaluations.alpaca
        source = catalogue.settings.prompts[alpaca.prompts].source
        if isinstance(catalogue.judge, OverlapJudge) and not isinstance(source, PromptsOfTask):
            raise PipelineError(
                f"evaluations.alpaca.judge is {alpaca.judge!r}, of kind overlap, which needs "
                f"prompts with known answers; {alpaca.prompts!r} has none"
            )

    def check_reference(self, where: str, recipe: str, catalogue: Catalogue) -> None:
        """A win rate needs the run that it compares with."""
        reference = catalogue.settings.evaluations.alpaca.reference.plain()
        runs = catalogue.runs(recipe)
        if reference not in list(runs.values()):
            raise PipelineError(
                f"evaluations.alpaca.reference is {json.dumps(reference)}, which the recipe "
                f"{recipe!r} of {where} does not run; it runs {', '.join(runs)}"
            )


class VlmScore(MainScore):
    """The plain mean of the scores of a suite of vision benchmarks, all in [0, 1]."""

    tuning = VISUAL_TUNING
    metrics: ClassVar[set[str]] = {"vlm_score", "score"}

    def shows(self, catalogue: Catalogue) -> dict[str, tuple[str, str]]:
        parts = catalogue.vision_suite.benchmarks
        own = {"vlm": ("VLM score", "vlm_score")}
        return own | {name: (part.title, "score") for name, part in parts.items()}

    def suites(self, catalogue: Catalogue) -> list[str]:
        return [catalogue.settings.evaluations.vision.suite]

    def sources(self, recipe: str, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        own = catalogue.visual(recipe)
        yield from (("vision_suites", suite) for suite in self.suites(catalogue))
        yield "encoders", own.encoder
        yield "tasks", own.alignment.task

    def files_of_run(
        self, checkpoint: Checkpoint, task: str, recipe: str, run: str
    ) -> Iterator[str]:
        yield paths.of_run(checkpoint, task, recipe, run, "vision")

    def check(self, where: str, models: list[str], recipe: str, catalogue: Catalogue) -> None:
        twice = [name for name in self.shows(catalogue) if name in catalogue.suite.tasks]
        if twice:
            (suite,) = self.suites(catalogue)
            raise PipelineError(
                f"vision_suites.{suite}.benchmarks has {twice[0]!r}, which is a benchmark of "
                f"{catalogue.settings.evaluations.benchmarks.suite}, too; {where} shows both"
            )
        own, name = catalogue.visual(recipe), f"visual_recipes.{recipe}"
        stage_one = own.alignment.batch_size
        check_batch(f"{name}.alignment.batch_size", stage_one, "align_projector", models, catalogue)
        check_batch(f"{name}.batch_size", own.batch_size, "finetune_vision", models, catalogue)


def check_batch(
    where: str, batch_size: int, stage: str, models: list[str], catalogue: Catalogue
) -> None:
    """A batch is whole micro-batches on all GPUs of a stage's job."""
    for model in models:
        sizes: dict[str, OfTuning] = getattr(catalogue.settings.resources, stage)
        own = sizes[catalogue.released(model).size]
        together = own.micro_batch * max(1, own.gpu)
        if batch_size % together:
            raise PipelineError(
                f"{where} is {batch_size}; it must be a "
                f"multiple of micro_batch x gpu of resources.{stage} for {model} "
                f"({own.micro_batch} x {max(1, own.gpu)})"
            )


MAIN_SCORES: dict[str, MainScore] = {"alpaca": WinRate(), "vlm": VlmScore()}
