"""Recipes: hyperparameters of fine-tuning (Table 4), instruction and visual tuning (Table 2)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from overtrain.config.models import Betas, Clip, Dropout
from overtrain.config.section import (
    Count,
    Distinct,
    Name,
    Positive,
    Probability,
    Section,
    Seed,
    Share,
    Text,
)


class Steps(Section):
    """What every training has."""

    batch_size: Count
    epochs: Count
    weight_decay: float = Field(default=0.0, ge=0)
    betas: Betas
    clip: Clip


Warmup = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)],
    Field(description="Steps; below 1, a share of all"),
]


class StepsOnConversations(Steps):
    """A batch is conversations."""

    scheduler: Literal["cosine", "constant", "linear"]
    warmup_steps: Warmup
    max_length: int = Field(ge=2, description="Tokens of a conversation; the rest is cut")
    precision: Literal["bf16", "fp32"] = Field(
        description="Of products on a GPU; weights and optimizer are float32"
    )


class AnyRecipe(Steps):
    """What every recipe has."""

    learning_rates: Distinct[Positive] = Field(description="Every one is run")
    seeds: Distinct[Seed]

    def runs(self) -> dict[str, dict]:
        """Name of each run, and its learning rate and seed."""
        return {
            f"lr{rate:g}-seed{seed}": {"learning_rate": rate, "seed": seed}
            for rate in self.learning_rates
            for seed in self.seeds
        }


class Recipe(AnyRecipe):
    """All runs of a sweep are one job. The best epoch on validation and the last are kept."""

    scheduler: Literal["cosine", "constant"]
    warmup: Share = Field(description="Share of the steps")
    dropout: Dropout


class Lora(Section):
    """Low-rank changes instead of all weights."""

    rank: Count
    alpha: Positive
    dropout: Probability
    modules: Text = Field(
        description="Names of the modules that are adapted, a regular expression, or all-linear"
    )


class InstructionRecipe(AnyRecipe, StepsOnConversations):
    """A run is a job of its own."""

    study: Literal["released", "amuro_char", "docstrings"] = Field(
        default="released", description="Whose its runs are; it says what is measured of them"
    )
    template: Text | None = Field(
        default=None, description="As chat.template, of this recipe alone; null: that"
    )
    lora: Lora | None = Field(default=None, description="Without: all weights")
    snapshots: Distinct[Annotated[float, Field(gt=0, lt=1)]] | None = Field(
        default=None, description="Shares of the steps after which the weights are measured, too"
    )

    def run_slice(self, run: str) -> dict:
        return self.plain("learning_rates", "seeds", "study", "template") | self.runs()[run]


def with_marks(template: str) -> str:
    """A fault that training would find only when the projectors are trained."""
    for mark in ("<image>", "{% generation %}"):
        if mark not in template:
            raise ValueError(f"it has no {mark}")
    return template


Parts = Annotated[
    Text,
    AfterValidator(with_marks),
    Field(
        description="Jinja template of a conversation whose contents are lists of parts, an image "
        "or text, with generation marks around what is learned; it writes <image> for an image"
    ),
]
WithImages = Annotated[
    int,
    Field(
        ge=2,
        description="Tokens, an image's among them; a longer conversation is left out, not cut",
    ),
]


class Alignment(StepsOnConversations):
    """The first stage of visual tuning: the projector alone, on captions."""

    task: Name = Field(description="A key of tasks, of kind image_chat")
    learning_rate: Positive
    max_length: WithImages
    template: Parts
    seeds: Literal["first", "each"] = Field(
        description="first: one projector a checkpoint, of the recipe's first seed, for all runs; "
        "each: one for each seed"
    )


class VisualRecipe(AnyRecipe, StepsOnConversations):
    """LLaVA's second stage, language model and projector; a run is a job of its own.

    A batch is conversations that all have an image, or none. The vision encoder is never trained.
    """

    max_length: WithImages
    template: Parts
    encoder: Name = Field(description="A key of encoders")
    layer: int = Field(
        description="Of the encoder's hidden states, counted from the end where negative: what the "
        "projector reads, without the class token"
    )
    alignment: Alignment

    def run_slice(self, run: str) -> dict:
        return self.plain("learning_rates", "seeds", "alignment") | self.runs()[run]

    def projectors(self) -> dict[str, dict]:
        """Name of each projector of a checkpoint, and its learning rate and seed."""
        seeds = self.seeds if self.alignment.seeds == "each" else self.seeds[:1]
        rate = self.alignment.learning_rate
        return {f"seed{seed}": {"learning_rate": rate, "seed": seed} for seed in seeds}

    def projector_of(self, run: str) -> str:
        """The projector that a run starts from."""
        each = self.alignment.seeds == "each"
        return f"seed{self.runs()[run]['seed'] if each else self.seeds[0]}"

    def alignment_slice(self, projector: str) -> dict:
        own = {"encoder": self.encoder, "layer": self.layer} | self.projectors()[projector]
        return self.alignment.plain("seeds") | own


class ChatTemplate(Section):
    """One for all base models."""

    template: Text = Field(
        description="Jinja template of a conversation, with generation marks around what is learned"
    )
