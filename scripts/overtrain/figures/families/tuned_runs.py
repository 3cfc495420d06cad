"""Figures of scores of released models before and after instruction tuning (section 2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config import paths
from overtrain.config.benchmarks import NOT_BENCHMARKS
from overtrain.config.errors import known
from overtrain.config.judges import OverlapJudge, PromptsOfTask
from overtrain.config.models import Checkpoint
from overtrain.config.section import Distinct, Section, Text
from overtrain.figures.families.models import OfSweeps
from overtrain.figures.kind import Catalogue, Figure

WIN_RATES = {"win_rate", "length_controlled_win_rate"}


class Panel(Section):
    """A panel of scores after instruction tuning."""

    title: Text | None = Field(None, description="Above the panel; the evaluation's without it")
    evaluations: Distinct[
        Annotated[Text, Field(description="alpaca, c4, or a benchmark of the suite")]
    ] = Field(description="Their mean is shown")


class OfTunedRuns(OfSweeps, Figure):
    """A figure of scores of released models before and after instruction tuning."""

    studies: ClassVar[set[str]] = {"released"}
    conversations: ClassVar[bool] = True
    metrics: ClassVar[set[str]] = {"accuracy", "accuracy_norm", "perplexity"} | WIN_RATES
    selections: ClassVar[set[str]] = {"base", "last"}
    chooses: ClassVar[bool]  # whether it shows runs of the learning rate that wins most

    panels: list[Panel] = Field(min_length=1, description="Panels, left to right")
    token_axis: Literal["log", "linear"] = Field(description="Scale of the pre-training tokens")

    def evaluations(self) -> list[str]:
        return sorted({name for panel in self.panels for name in panel.evaluations})

    def measurements(self, catalogue: Catalogue) -> list[str]:
        """Those of each checkpoint, and the win rates, which are of all of a model together."""
        found = super().measurements(catalogue)
        if "alpaca" in self.evaluations() or self.chooses:
            found += [
                paths.of_sweeps(model, task, self.recipe, "alpaca")
                for model in catalogue.names("models", self.models)
                for task in catalogue.names("tasks", self.tasks)
            ]
        return found

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
            for run in catalogue.runs(self.recipe):
                for evaluation in ["benchmarks", "c4"] if benchmarks else ["c4"]:
                    yield paths.of_run(checkpoint, task, self.recipe, run, evaluation)

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        return {"evaluation": sorted({*self.evaluations(), "alpaca"})}

    def printed(self, catalogue: Catalogue) -> dict:
        alpaca = catalogue.settings.evaluations.alpaca
        prompts = catalogue.settings.prompts[alpaca.prompts]
        shows = {"alpaca": (prompts.title, alpaca.metric), "c4": ("held-out text", "perplexity")}
        shows |= {name: (own.title, own.metric) for name, own in catalogue.suite.tasks.items()}
        shown = {name: shows[name] for name in {*self.evaluations(), "alpaca"}}
        return super().printed(catalogue) | {
            "evaluations": {name: {"title": t, "metric": m} for name, (t, m) in shown.items()},
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
        suite = f"the suite {catalogue.settings.evaluations.benchmarks.suite}"
        for name in self.evaluations():
            known(f"{where}.panels", name, suite, [*NOT_BENCHMARKS, *catalogue.suite.tasks], "has")
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
            own = catalogue.settings.resources.finetune_instruct[catalogue.released(model).size]
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
