"""Suites of benchmarks: lm-eval's tasks, or questions made of docstrings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from overtrain.config.hub import Asked
from overtrain.config.section import Count, Distinct, Named, Package, Revision, Section, Text

Backend = Annotated[
    Literal["hf", "vllm"],
    Field(description="hf: transformers. Results differ in rounding: one for all of a figure"),
]
NOT_BENCHMARKS = ("alpaca", "c4", "vlm")  # what else a tuned run is evaluated on


class Dataset(Section):
    path: Text = Field(description="Hub data set, or a local folder")
    name: str | None = None
    revision: Revision


class Continuations(Section):
    """How a docstring goes on."""

    kind: Literal["continuations"]
    before: Count = Field(description="Characters before the answer")
    after: Count = Field(description="Characters of an answer")
    options: int = Field(ge=2)
    near: bool = Field(description="Wrong answers are of the same document")
    questions: Count = Field(description="So many at most")


class Blanks(Section):
    """Which letters a docstring lacks."""

    kind: Literal["blanks"]
    before: Count = Field(description="Characters before the answer")
    hole: Count = Field(description="Characters of the blank")
    after: Count = Field(description="Characters after the blank")
    questions: Count = Field(description="So many at most")


class Booleans(Section):
    """A parameter's default."""

    kind: Literal["booleans"]
    before: Count = Field(description="Characters before the answer")
    questions: Count = Field(description="So many at most")


class Benchmark(Section):
    title: Text
    metric: Literal["accuracy", "accuracy_norm"] = Field(
        description="The one that figures show; all are kept"
    )
    task: Text | None = Field(default=None, description="Its name in lm-eval, where ours differs")
    dataset: Dataset | None = Field(
        default=None,
        description="The data set, where it is not to be looked up in the task's YAML file",
    )
    data: Annotated[Continuations | Blanks | Booleans, Field(discriminator="kind")] | None = Field(
        default=None, description="Questions made of docstrings, instead of a data set"
    )


class Suite(Section):
    """Benchmarks that are measured together: lm-eval's tasks, or files of one's own."""

    shots: int = Field(ge=0, description="Examples in a prompt")
    backend: Backend
    batch_size: Count = Field(description="With transformers")
    limit: Count | None = Field(default=None, description="Questions of a task; null: all")
    folder: Text | None = Field(
        default=None, description="YAML files of tasks that lm-eval does not have"
    )
    chat_template: bool = False
    tokens: Count | None = Field(
        default=None,
        description="Tokens of all requests together, about; for what runs cost. null: few",
    )
    packages: Distinct[Package] | None = Field(
        default=None, description="Packages whose docstrings `data` of tasks asks about"
    )
    tasks: Named[Benchmark] = Field(min_length=1, description="lm-eval's tasks by name")

    @model_validator(mode="after")
    def questions_have_text(self) -> Suite:
        for name, task in self.tasks.items():
            if name in NOT_BENCHMARKS:
                raise ValueError(f"{name!r} cannot be a benchmark's name")
            if task.data and not self.packages:
                raise ValueError(f"packages is missing; tasks.{name}.data is made of them")
        return self

    def asked(self) -> Iterator[Asked]:
        for name, task in self.tasks.items():
            if task.dataset:
                key, own = f"tasks.{name}.dataset", (task.dataset.path, task.dataset.revision)
                yield Asked(key, "dataset", *own, f"{key}.path")

    def files(self) -> list[str]:
        """The files in its own folder of tasks, if it has one."""
        return sorted(str(path) for path in Path(self.folder).glob("*.*")) if self.folder else []

    def slice(self) -> dict:
        """What its tasks are made of; titles, and what figures show, do not matter."""
        tasks = {name: task.plain("title", "metric") for name, task in self.tasks.items()}
        keys = ("chat_template", "folder", "packages", "shots")
        return {key: getattr(self, key) for key in keys} | {"tasks": tasks}

    def asked_slice(self) -> dict:
        """What a model is asked; titles, and which metric figures show, do not matter."""
        keys = ("backend", "chat_template", "limit", "shots")
        return {key: getattr(self, key) for key in keys} | {"tasks": sorted(self.tasks)}
