"""Figures of scores of released models before and after they are tuned (section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config import paths
from overtrain.config.errors import known
from overtrain.config.models import Checkpoint
from overtrain.config.section import Distinct, Section, Text
from overtrain.figures.families.main_scores import MAIN_SCORES, MainScore
from overtrain.figures.families.models import OfSweeps, Runs, Tuning
from overtrain.figures.kind import Catalogue, Figure

TEXT = ("held-out text", "perplexity")  # title and metric of c4
COMMON = {"accuracy", "accuracy_norm", "perplexity"}  # metrics beside those of the main score
TokenAxis = Annotated[
    Literal["log", "linear"], Field(description="Scale of the pre-training tokens")
]


class Panel(Section):
    """A panel of scores after tuning."""

    title: Text | None = Field(None, description="Above the panel; the evaluation's without it")
    evaluations: Distinct[
        Annotated[
            Text,
            Field(
                description="alpaca or vlm (which `main` is), c4, a benchmark of the suite, or, "
                "beside vlm, of the vision suite"
            ),
        ]
    ] = Field(description="Their mean is shown")


class TunedRuns(Runs):
    """Runs of one recipe, the score that they are tuned for, and what else is shown of them."""

    main: Literal["alpaca", "vlm"] = Field(
        description="The score that is tuned for: it is drawn green and chooses the learning rate; "
        "vlm after visual tuning"
    )
    panels: list[Panel] = Field(min_length=1, description="Panels, left to right")


class OfTunedRuns(TunedRuns, OfSweeps, Figure):
    """A figure of scores of released models before and after tuning."""

    studies: ClassVar[set[str]] = {"released"}
    metrics: ClassVar[set[str]] = COMMON.union(*(main.metrics for main in MAIN_SCORES.values()))
    selections: ClassVar[set[str]] = {"base", "last"}
    chooses: ClassVar[bool]  # whether it shows runs of the rate that is best by the main score

    token_axis: TokenAxis

    @property
    def main_score(self) -> MainScore:
        return MAIN_SCORES[self.main]

    @property
    def tuning(self) -> Tuning:
        return self.main_score.tuning

    def evaluations(self) -> list[str]:
        return sorted({name for panel in self.panels for name in panel.evaluations})

    def benchmarks(self, catalogue: Catalogue) -> list[str]:
        """The benchmarks of language that it shows."""
        return [name for name in self.evaluations() if name in catalogue.suite.tasks]

    def needs_main(self, catalogue: Catalogue) -> bool:
        """Whether it shows the main score or a part of it, or chooses by it."""
        return self.chooses or not self.main_score.shows(catalogue).keys().isdisjoint(
            self.evaluations()
        )

    def measurements(self, catalogue: Catalogue) -> list[str]:
        """Those of each checkpoint, and those of all of a model together."""
        found = super().measurements(catalogue)
        if self.needs_main(catalogue):
            found += [
                file
                for model in catalogue.names("models", self.models)
                for task in catalogue.names("tasks", self.tasks)
                for file in self.main_score.files_of_model(model, task, self.recipe)
            ]
        return found

    def files(self, checkpoint: Checkpoint, catalogue: Catalogue) -> Iterator[str]:
        """Those of the runs, and of their base.

        Held-out text is the last link of a run's chain and always among them: a figure that came
        later would find the weights gone.
        """
        benchmarks = self.benchmarks(catalogue)
        if benchmarks:
            yield paths.of_checkpoint(checkpoint, "benchmarks")
        if "c4" in self.evaluations():
            yield paths.of_checkpoint(checkpoint, "c4")
        for task in catalogue.names("tasks", self.tasks):
            for run in catalogue.runs(self.recipe):
                if self.needs_main(catalogue):
                    yield from self.main_score.files_of_run(checkpoint, task, self.recipe, run)
                for evaluation in ["benchmarks", "c4"] if benchmarks else ["c4"]:
                    yield paths.of_run(checkpoint, task, self.recipe, run, evaluation)

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        return {
            "evaluation": sorted({*self.evaluations(), self.main}),
            "metric": sorted(COMMON | self.main_score.metrics),
        }

    def shows(self, catalogue: Catalogue) -> dict[str, tuple[str, str]]:
        """Title and metric of all that may be shown, by evaluation."""
        language = {name: (own.title, own.metric) for name, own in catalogue.suite.tasks.items()}
        return self.main_score.shows(catalogue) | {"c4": TEXT} | language

    def printed(self, catalogue: Catalogue) -> dict:
        shows = self.shows(catalogue)
        shown = {name: shows[name] for name in {*self.evaluations(), self.main}}
        return (
            super().printed(catalogue)
            | {"evaluations": {name: {"title": t, "metric": m} for name, (t, m) in shown.items()}}
            | self.main_score.printed(catalogue)
        )

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        yield from super().sources(catalogue)
        yield from self.main_score.sources(self.recipe, catalogue)
        yield "benchmark_suites", catalogue.settings.evaluations.benchmarks.suite

    def check(self, where: str, catalogue: Catalogue) -> None:
        self.check_main(where, catalogue)
        super().check(where, catalogue)
        self.check_panels(where, catalogue)
        models = catalogue.names("models", self.models)
        self.main_score.check(where, models, self.recipe, catalogue)

    def check_main(self, where: str, catalogue: Catalogue) -> None:
        """The recipe is of the tuning whose score `main` is."""
        for name, other in MAIN_SCORES.items():
            section = other.tuning.recipes
            if name != self.main and self.recipe in getattr(catalogue.settings, section):
                raise PipelineError(
                    f"{where}.main is {self.main!r}; its recipe {self.recipe!r} is one of "
                    f"{section}, where main is {name!r}"
                )

    def check_panels(self, where: str, catalogue: Catalogue) -> None:
        """Panels show what is measured, and means are of scores of one suite."""
        own = self.main_score.shows(catalogue)
        language = catalogue.settings.evaluations.benchmarks.suite
        suites = f"the suite {' or '.join([language, *self.main_score.suites(catalogue)])}"
        for name in self.evaluations():
            known(f"{where}.panels", name, suites, self.shows(catalogue), "has")
        for panel in self.panels:
            names = panel.evaluations
            alone = [name for name in names if name in (self.main, "c4")]
            if alone and len(names) > 1:
                raise PipelineError(
                    f"{where}.panels takes a mean of {', '.join(names)}; "
                    f"{alone[0]} is no accuracy and needs a panel of its own"
                )
            parts = [name for name in names if name in own]
            if parts and len(parts) < len(names):
                raise PipelineError(
                    f"{where}.panels takes a mean of {', '.join(names)}; it must be of one "
                    f"suite, and only {', '.join(parts)} of these are parts of {self.main}"
                )
