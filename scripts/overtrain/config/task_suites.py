"""Suites of prompted tasks: what base models are asked with examples, and tuned ones after them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from overtrain.config.benchmarks import NOT_BENCHMARKS, Backend
from overtrain.config.section import Count, Name, Section, Text


def not_taken(name: str) -> str:
    if name in (*NOT_BENCHMARKS, "id", "training"):
        raise ValueError("this cannot be the name of an evaluation")
    return name


class AskedTask(Section):
    task: Name = Field(description="A key of tasks, of kind prompted")


class TaskSuite(Section):
    """Prompted tasks that are asked together, by the names that figures have for them."""

    backend: Backend
    batch_size: Count = Field(description="With transformers")
    shots: int = Field(ge=0, description="Examples in a prompt, of the task's training split")
    separator: Text = Field(description="Between the examples of a prompt")
    stop: Text | None = Field(
        default=None,
        description="Ends a generated answer, as the end of text does; null: all that is generated "
        "is the answer, as in the authors' code",
    )
    questions: Count | None = Field(
        default=None, description="Of each test split, at most; null: all"
    )
    validation: Count = Field(
        description="Questions of the validation split that a run is asked to choose its rate"
    )
    bootstrap: Count = Field(description="Resamples of the questions, for standard errors")
    evaluations: dict[Annotated[Name, AfterValidator(not_taken)], AskedTask] = Field(min_length=1)

    def asked_slice(self) -> dict:
        """What is asked, and how, beside the tasks themselves."""
        return self.plain("evaluations", "batch_size")
