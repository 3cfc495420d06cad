"""Models: pre-trained here (Table 3), or released on the hub with their checkpoints (Table 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag, field_validator

from overtrain.config.hub import Asked
from overtrain.config.section import (
    Count,
    Distinct,
    Named,
    Positive,
    Probability,
    Revision,
    Section,
    Seed,
    Share,
    Text,
    has,
)
from overtrain.config.units import Budget, tokens_of

Betas = Annotated[list[Probability], Field(min_length=2, max_length=2, description="AdamW's betas")]
Clip = Annotated[
    Positive | None, Field(description="Largest L2 norm of a run's gradient; null: no clip")
]

Cutoff = Annotated[
    Positive | None,
    Field(description="Draws beyond so many std are drawn again; null: none are"),
]


@dataclass(frozen=True)
class Checkpoint:
    """A point of a model's pre-training: its name, token budget and pre-training seed."""

    model: str
    name: str
    tokens: int
    seed: int


class Dropout(Section):
    """Probability of dropping an element, by place."""

    attention: Probability
    embedding: Probability
    residual: Probability

    def largest(self) -> float:
        return max(self.attention, self.embedding, self.residual)


class Shape(Section):
    """The architecture of a model that is pre-trained here."""

    layers: Count
    heads: Count
    hidden_size: Count
    mlp_size: Count = Field(description="Width of each of the three SwiGLU matrices")
    context: Count
    vocabulary: int = Field(
        ge=1, le=65536, description="Rows of the embedding; at least the tokenizer's tokens"
    )
    base_width: Count | None = Field(
        description="Width at which muP equals the standard parameterisation; "
        "null: standard at every width"
    )

    @field_validator("hidden_size")
    @classmethod
    def even_multiple(cls, value: int, info) -> int:
        heads = info.data.get("heads", 1)
        if value % (2 * heads):
            raise ValueError(f"it must be an even multiple of heads ({heads})")
        return value


class PretrainedModel(Section):
    """A model that is pre-trained here, once for each budget and seed."""

    title: Text = Field(description="Name in figures")
    corpus: Text = Field(description="A key of corpora")
    architecture: Shape
    budgets: Distinct[Budget] = Field(description="Pre-training budgets in tokens")
    seeds: Distinct[Seed] = Field(
        default=[0],
        description="Pre-training seeds; seed 0's checkpoints are named by the budget alone",
    )

    study: ClassVar[str] = "controlled"

    def checkpoints(self, model: str) -> list[Checkpoint]:
        """All of them, by tokens and then seed; `model` is this model's name."""
        points = [
            # Seed 0 has no suffix, so that adding seeds renames, and retrains, nothing.
            Checkpoint(model, name if seed == 0 else f"{name}-seed{seed}", tokens_of(name), seed)
            for seed in self.seeds
            for name in self.budgets
        ]
        return sorted(points, key=lambda point: (point.tokens, point.seed))


class Mitchell(Section):
    """OLMo's own: each tensor's std by its shape and its layer's depth."""

    kind: Literal["mitchell"]
    cutoff: Cutoff


class Normal(Section):
    kind: Literal["normal"]
    std: Positive
    cutoff: Cutoff


class Point(Section):
    """A revision of a hub repository, and the tokens that it has seen."""

    revision: Revision
    tokens: Budget


class HubModel(Section):
    repository: Text = Field(
        description="Hub repository, or a local folder with a folder for each revision"
    )
    checkpoints: Named[Point] = Field(min_length=1, description="By name; null: left out")


class ReleasedModel(Section):
    """A model of the hub, at several revisions of its pre-training."""

    title: Text = Field(description="Name in figures")
    corpus: Text = Field(description="A key of corpora")
    hub: HubModel
    initialisation: Annotated[Mitchell | Normal, Field(discriminator="kind")] | None = Field(
        default=None, description="What the weights were drawn from, as documented"
    )
    window: int = Field(
        ge=2, description="Tokens of held-out text in one sequence; at most the model's context"
    )
    size: Text = Field(description="A key of the sizes in resources")
    reference: Text = Field(description="The checkpoint whose run AlpacaEval compares with")
    benchmark_suite: Text | None = Field(
        default=None,
        description="A key of benchmark_suites; null: that of evaluations.benchmarks",
    )

    study: ClassVar[str] = "released"

    def checkpoints(self, model: str) -> list[Checkpoint]:
        """All of them, by tokens; `model` is this model's name."""
        own = self.hub.checkpoints.items()
        points = [Checkpoint(model, name, tokens_of(point.tokens), 0) for name, point in own]
        return sorted(points, key=lambda point: point.tokens)

    def asked(self) -> Iterator[Asked]:
        for name, point in self.hub.checkpoints.items():
            key, own = f"hub.checkpoints.{name}", (self.hub.repository, point.revision)
            yield Asked(key, "model", *own, "hub.repository", "checkpoint")

    def download_slice(self, checkpoint: str) -> dict:
        revision = self.hub.checkpoints[checkpoint].revision
        return {"repository": self.hub.repository, "revision": revision}


Model = Annotated[
    Annotated[ReleasedModel, Tag("released")] | Annotated[PretrainedModel, Tag("pretrained")],
    has("hub", "released", "pretrained"),
]


class Pretraining(Section):
    """The same for every model (Table 3)."""

    learning_rate: Positive
    betas: Betas
    weight_decay: float = Field(ge=0)
    batch_size: Count = Field(description="Windows of the model's context")
    warmup: Share = Field(description="Share of the steps")
    clip: Clip
    dropout: Dropout
