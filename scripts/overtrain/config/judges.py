"""Prompts that tuned models answer, and what decides which of two outputs is better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, Tag

from overtrain.config.hub import Asked
from overtrain.config.section import Count, Positive, Revision, Section, Text, has


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
