"""Recipes: named hyperparameters of fine-tuning (Table 4) and of instruction tuning (Table 2)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from overtrain.config.models import Betas, Clip, Dropout
from overtrain.config.section import (
    Count,
    Distinct,
    Positive,
    Probability,
    Section,
    Seed,
    Share,
    Text,
)


class AnyRecipe(Section):
    """What every recipe has."""

    learning_rates: Distinct[Positive] = Field(description="Every one is run")
    seeds: Distinct[Seed]
    batch_size: Count
    epochs: Count
    scheduler: Literal["cosine", "constant"]
    weight_decay: float = Field(default=0.0, ge=0)
    betas: Betas
    clip: Clip

    def runs(self) -> dict[str, dict]:
        """Name of each run, and its learning rate and seed."""
        return {
            f"lr{rate:g}-seed{seed}": {"learning_rate": rate, "seed": seed}
            for rate in self.learning_rates
            for seed in self.seeds
        }


class Recipe(AnyRecipe):
    """All runs of a sweep are one job. The best epoch on validation and the last are kept."""

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


class InstructionRecipe(AnyRecipe):
    """A run is a job of its own; a batch is conversations."""

    warmup_steps: int = Field(ge=0)
    max_length: int = Field(ge=2, description="Tokens of a conversation; the rest is cut")
    precision: Literal["bf16", "fp32"] = Field(
        description="Of products on a GPU; weights and optimizer are float32"
    )
    lora: Lora | None = Field(default=None, description="Without: all weights")

    def run_slice(self, run: str) -> dict:
        return self.plain("learning_rates", "seeds") | self.runs()[run]


class ChatTemplate(Section):
    """One for all base models."""

    template: Text = Field(
        description="Jinja template of a conversation, with generation marks around what is learned"
    )
