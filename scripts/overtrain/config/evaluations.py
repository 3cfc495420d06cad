"""What is measured of a checkpoint, of a sweep, and of an instruction-tuned run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from overtrain.config.hub import Asked
from overtrain.config.section import (
    Count,
    Distinct,
    Named,
    Package,
    Positive,
    Revision,
    Section,
    Seed,
    Text,
    has,
)

Backend = Annotated[
    Literal["auto", "hf", "vllm"], Field(description="auto: vllm where it is installed")
]
NOT_BENCHMARKS = ("alpaca", "c4")  # what else a tuned run is evaluated on


# --- held-out text and noise ----------------------------------------------------------------------


class HeldOutText(Section):
    tokens: Count = Field(description="Tokens of held-out text")


class Perturbation(Section):
    """Gaussian noise of gamma times each tensor's std at initialisation (eq. 1, C.2)."""

    gammas: Distinct[Positive]
    seeds: Distinct[Seed]


class Sharpness(Perturbation):
    """Tr(H Sigma_init), and the rise of the loss at plus and minus each draw (appendix D)."""

    tokens: Count = Field(description="Tokens of held-out text")


Lambdas = Annotated[Distinct[float], Field(min_length=2)]


class AlongFineTuning(Section):
    """lambda 0 is the base, 1 the fine-tuned model."""

    near: Lambdas = Field(description="Lambdas of the left panel, near zero")
    wide: Lambdas = Field(description="Lambdas of the right panel")


class AlongNoise(AlongFineTuning):
    """lambda is as gamma is."""

    seed: Seed = Field(description="Of the noise")


class Interpolation(Section):
    """The loss at theta + lambda v along one direction v, and to second order (appendix D)."""

    last: Count = Field(description="So many of the largest budgets")
    tokens: Count = Field(description="Tokens of held-out text")
    gaussian: AlongNoise
    fine_tuning: AlongFineTuning

    def slice(self, direction: str) -> dict:
        """direction: gaussian or fine_tuning. Which panel shows a lambda does not matter."""
        own: AlongFineTuning = getattr(self, direction)
        lambdas = sorted({0.0, *own.near, *own.wide})
        return own.plain("near", "wide") | {"lambdas": lambdas, "tokens": self.tokens}


class Statistics(Section):
    """Beside each aggregate by tokens (docs/statistics.md)."""

    bootstrap: int = Field(ge=100, description="Resamples of the seeds")
    level: float = Field(gt=0, lt=1, description="Of the resamples' intervals")


# --- instruction-tuned runs -----------------------------------------------------------------------


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


class Evaluations(Section):
    c4: HeldOutText
    batch_tokens: Count = Field(
        description="Tokens in one pass of a whole stack; memory, not results"
    )
    benchmarks: Benchmarks
    alpaca: Alpaca


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


class PromptsFile(Section):
    dataset: Text = Field(description="Hub data set, or a local folder")
    revision: Revision
    file: Text = Field(description="JSON file of rows with an instruction")


class PromptsOfTask(Section):
    task: Text = Field(description="A task of kind chat, whose test conversations are asked")


class Prompts(Section):
    """Instructions that tuned models answer, to be judged."""

    title: Text = Field(description="Name in figures")
    source: Annotated[
        Annotated[PromptsFile, Tag("hub")] | Annotated[PromptsOfTask, Tag("task")],
        has("dataset", "hub", "task"),
    ]
    count: Count = Field(description="So many; a source that has fewer is an error")

    def asked(self) -> Iterator[Asked]:
        if isinstance(self.source, PromptsFile):
            own, files = self.source, {"names": [self.source.file]}
            yield Asked("source", "dataset", own.dataset, own.revision, "source.dataset", files)

    def files(self) -> list[str]:
        """The held-out conversations that prompts are taken from, unless they have a source."""
        if isinstance(self.source, PromptsOfTask):
            return [f"results/tasks/{self.source.task}/test.parquet"]
        return []


# --- judges ---------------------------------------------------------------------------------------


class AnyJudge(Section):
    """What decides which of two outputs is better."""

    title: Text = Field(description="Name in figures")

    def verdict_slice(self) -> dict:
        """What a verdict depends on; not how fast or where the judge is asked.

        Also what decides which questions end without a verdict.
        """
        keys = ("attempts", "kind", "max_model_len", "model", "template", "top_logprobs")
        return {key: getattr(self, key) for key in keys if hasattr(self, key)}


Template = Annotated[
    Text, Field(description="A prompt of the package alpaca_eval, below its evaluators_configs")
]
JudgeModel = Annotated[
    Text, Field(description="A hub repository, downloaded first, or a local folder")
]


class Questioned(AnyJudge):
    """A judge behind a server that speaks OpenAI's protocol."""

    template: Template
    concurrency: Count = Field(description="Questions asked at a time")
    timeout: Positive = Field(description="Seconds for an answer")
    retries: int = Field(ge=0, description="Of a request that failed, later each time")
    attempts: Count = Field(description="Times that a question is asked until its verdict is valid")
    top_logprobs: int | None = Field(
        ge=2, description="Likeliest tokens to ask for; null: the text decides"
    )


class OfTheHub(AnyJudge):
    """A language model that is downloaded first."""

    model: JudgeModel
    revision: Revision

    def asked(self) -> Iterator[Asked]:
        yield Asked("", "model", self.model, self.revision, "model", "checkpoint")

    def download_slice(self) -> dict:
        return {"repository": self.model, "revision": self.revision}


class ServedJudge(OfTheHub, Questioned):
    """Served by the job itself, on its GPUs."""

    kind: Literal["vllm"]
    max_model_len: Count
    startup_minutes: Positive


class EndpointJudge(Questioned):
    kind: Literal["openai"]
    model: Text
    base_url: Text
    key: Text = Field(description="Environment variable that holds the key; never the key itself")
    requests_per_minute: Positive | None = None


class LocalJudge(OfTheHub):
    kind: Literal["transformers"]
    template: Template
    batch_size: Count


class OverlapJudge(AnyJudge):
    """No language model: which output shares more with the known answer (ROUGE-L)."""

    kind: Literal["overlap"]


Judge = Annotated[
    ServedJudge | EndpointJudge | LocalJudge | OverlapJudge, Field(discriminator="kind")
]
