"""Noise on checkpoints, the loss's sharpness, and the loss along one direction."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from overtrain.config.section import Count, Distinct, Positive, Section, Seed


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
