"""What is measured of a sweep, and of an instruction-tuned run; how sure a figure is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from overtrain.config.benchmarks import Backend
from overtrain.config.section import Count, Positive, Section, Seed, Text


class HeldOutText(Section):
    tokens: Count = Field(description="Tokens of held-out text")


class ReferenceRun(Section):
    """The run that all others are compared with, from its model's `reference`."""

    learning_rate: Positive
    seed: Seed

    @property
    def name(self) -> str:
        return f"lr{self.learning_rate:g}-seed{self.seed}"


class Alpaca(Section):
    """Win rate against the same model and data set, tuned with one rate and seed (B.3)."""

    prompts: Text = Field(description="A key of prompts")
    reference: ReferenceRun
    max_new_tokens: Count
    backend: Backend
    batch_size: Count = Field(description="With transformers")
    judge: Text = Field(description="A key of judges")
    metric: Literal["win_rate", "length_controlled_win_rate"] = Field(
        description="Shown in figures, where it also tunes the rate"
    )


class Benchmarks(Section):
    suite: Text = Field(description="A key of benchmark_suites")


class Tasks(Section):
    suite: Text = Field(description="A key of task_suites")


class Programs(Section):
    """Answers to a task's test questions that are Python programs (study docstrings).

    By transformers: several weights of a run answer in one job, which vLLM has no room for.
    """

    questions: Count = Field(description="Of the test split, at most")
    batch_size: Count


class Vision(Section):
    suite: Text = Field(description="A key of vision_suites")


class Evaluations(Section):
    c4: HeldOutText
    batch_tokens: Count = Field(
        description="Tokens in one pass of a whole stack; memory, not results"
    )
    benchmarks: Benchmarks
    alpaca: Alpaca
    vision: Vision
    tasks: Tasks
    programs: Programs


class Statistics(Section):
    """Beside each aggregate by tokens (docs/statistics.md)."""

    bootstrap: int = Field(ge=100, description="Resamples of the seeds")
    level: float = Field(gt=0, lt=1, description="Of the resamples' intervals")
