"""Suites of vision-language benchmarks: five kinds, each scored as its authors do.

A kind says how questions are asked and answers scored; its source, where they are from: a data set
of the hub, or the digits that scikit-learn brings along, for a run without a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag, model_validator

from overtrain.config.hub import Asked
from overtrain.config.section import (
    Count,
    Distinct,
    Named,
    Repository,
    Revision,
    Section,
    Text,
    has,
)

NOT_BENCHMARKS = ("alpaca", "c4", "vlm")  # what else a tuned run is evaluated on

# --- sources --------------------------------------------------------------------------------------


class ImagesApart(Section):
    """Images in a configuration of their own; the questions name them."""

    name: Text = Field(description="Configuration of the data set")
    split: Text
    id: Text = Field(description="Column of the name that questions use")
    image: Text = Field(description="Column of the image")


class HubQuestions(Section):
    dataset: Repository
    name: Text | None = Field(default=None, description="Configuration of the data set")
    revision: Revision
    split: Text
    columns: dict[Text, Text] = Field(description="What we read: the column's name there")
    images: ImagesApart | None = Field(
        default=None, description="Null: `columns.image` holds the images themselves"
    )


class DigitQuestions(Section):
    """Held-out digits and held-out phrasings of what a model was tuned on."""

    digits: Literal["validation", "test"] = Field(description="Split of the digits")
    questions: Count = Field(description="So many at most")


Source = Annotated[
    Annotated[HubQuestions, Tag("hub")] | Annotated[DigitQuestions, Tag("digits")],
    has("dataset", "hub", "digits"),
]


# --- benchmarks -----------------------------------------------------------------------------------


class AnyBenchmark(Section):
    """What all kinds have."""

    needs: ClassVar[tuple[str, ...]]  # what is read of each row of a data set

    title: Text = Field(description="Name in figures")
    source: Source
    suffix: Text | None = Field(default=None, description="A last line of each question")
    max_new_tokens: Count = Field(description="Of an answer")

    @model_validator(mode="after")
    def columns_of_the_kind(self) -> AnyBenchmark:
        if isinstance(self.source, HubQuestions) and {*self.needs} != {*self.source.columns}:
            raise ValueError(
                f"source.columns has {', '.join(self.source.columns) or 'nothing'}; "
                f"this kind reads {', '.join(self.needs)}"
            )
        return self

    @property
    def least(self) -> int:
        """Questions without which it has no score."""
        return 2  # one in each half

    def slice(self) -> dict:
        """What its questions depend on."""
        return self.plain("title", "max_new_tokens")

    def asked_slice(self) -> dict:
        """What its answers and scores depend on, beside its questions."""
        return self.plain("title", "source", "suffix")


class Mme(AnyBenchmark):
    """Two yes/no questions on each image, the same question asked right and wrong."""

    kind: Literal["mme"]
    needs: ClassVar[tuple[str, ...]] = ("id", "question", "answer", "image", "category")
    strip: Text | None = Field(
        default=None, description="End of the data set's questions that `suffix` replaces"
    )
    perception: Distinct[Text] = Field(description="Its sub-tasks: categories of questions")
    cognition: Distinct[Text]

    @property
    def least(self) -> int:
        return 4 * len(self.perception + self.cognition)  # a pair of each sub-task in each half

    def asked_slice(self) -> dict:
        return self.plain("title", "source", "suffix", "strip")


class Gqa(AnyBenchmark):
    """One word or phrase."""

    kind: Literal["gqa"]
    needs: ClassVar[tuple[str, ...]] = ("id", "question", "answer", "image")


class Ai2d(AnyBenchmark):
    """The letter of one of some options."""

    kind: Literal["ai2d"]
    needs: ClassVar[tuple[str, ...]] = ("question", "options", "answer", "image")


class TextVqa(AnyBenchmark):
    """A phrase that ten people answered, too."""

    kind: Literal["textvqa"]
    needs: ClassVar[tuple[str, ...]] = ("id", "question", "answers", "image", "ocr")
    ocr: bool = Field(description="Show what a reader of text found in the image (OCR tokens)")

    def asked_slice(self) -> dict:
        return self.plain("title", "source", "suffix", "ocr")


class Pope(AnyBenchmark):
    """Yes or no: is it in the image? As often yes as no."""

    kind: Literal["pope"]
    needs: ClassVar[tuple[str, ...]] = ("id", "question", "answer", "image", "category")


VisionBenchmark = Annotated[Mme | Gqa | Ai2d | TextVqa | Pope, Field(discriminator="kind")]


class VisionSuite(Section):
    """Benchmarks whose mean score is the VLM score."""

    batch_size: Count = Field(description="Questions that are answered at a time")
    limit: Count | None = Field(
        default=None, description="Questions of a benchmark, spread over its images; null: all"
    )
    tokens: Count | None = Field(
        default=None,
        description="Tokens of all questions with their images, about; for what runs cost. "
        "null: few",
    )
    benchmarks: Named[VisionBenchmark] = Field(min_length=1)

    @model_validator(mode="after")
    def scored(self) -> VisionSuite:
        for name, benchmark in self.benchmarks.items():
            if name in NOT_BENCHMARKS:
                raise ValueError(f"{name!r} cannot be a benchmark's name")
            if self.limit and self.limit < benchmark.least:
                raise ValueError(f"limit is {self.limit}; {name} needs {benchmark.least}")
        return self

    def asked(self) -> Iterator[Asked]:
        for name, benchmark in self.benchmarks.items():
            if isinstance(source := benchmark.source, HubQuestions):
                key = f"benchmarks.{name}.source"
                yield Asked(key, "dataset", source.dataset, source.revision, f"{key}.dataset")

    def slice(self) -> dict:
        """What its questions are made of; titles, and how they are answered, do not matter."""
        return {"benchmarks": {name: own.slice() for name, own in self.benchmarks.items()}}

    def asked_slice(self) -> dict:
        """What a model is asked, and how its answers are scored."""
        own = {name: benchmark.asked_slice() for name, benchmark in self.benchmarks.items()}
        return {"benchmarks": own, "limit": self.limit}
