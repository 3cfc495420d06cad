"""Vision encoders: CLIP's of the hub, or a small one that is trained here on digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from overtrain.config.hub import Asked
from overtrain.config.section import Count, Positive, Repository, Revision, Section, Text


class HubEncoder(Section):
    """The vision half of a CLIP model."""

    kind: Literal["hub"]
    title: Text
    repository: Repository
    revision: Revision
    image_tokens: Count = Field(description="Tokens that an image takes; for what runs cost")
    flops: Positive = Field(description="Floating-point operations of a pass over an image")
    download_mb: Count = Field(description="MB of its weights on the hub; for what runs cost")
    mb: Count = Field(description="MB of its vision half in float32; for what runs cost")

    def asked(self) -> Iterator[Asked]:
        place = (self.repository, self.revision, "repository", "encoder")
        yield Asked("", "model", *place)

    def slice(self) -> dict:
        return self.plain("title", "image_tokens", "flops", "download_mb", "mb")


class DigitsEncoder(Section):
    """A CLIP vision model that learns to name scikit-learn's handwritten digits."""

    kind: Literal["digits"]
    title: Text
    image_size: Count = Field(description="Pixels of a side")
    patch_size: Count = Field(description="Pixels of a side; a patch is a token")
    hidden_size: Count
    layers: int = Field(ge=2, description="Features are taken from the last but one")
    heads: Count
    mlp_size: Count
    epochs: Count
    learning_rate: Positive
    batch_size: Count

    @model_validator(mode="after")
    def divisible(self) -> DigitsEncoder:
        for whole, part in (("image_size", "patch_size"), ("hidden_size", "heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole} is {getattr(self, whole)}; it must be a multiple of {part}, "
                    f"{getattr(self, part)}"
                )
        return self

    @property
    def image_tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def flops(self) -> float:
        """Two for each weight of a layer's products, a token: four of attention, two of the MLP."""
        width = self.hidden_size
        weights = self.layers * (4 * width * width + 2 * width * self.mlp_size)
        return 2 * weights * (1 + self.image_tokens)

    def slice(self) -> dict:
        return self.plain("title")


Encoder = Annotated[HubEncoder | DigitsEncoder, Field(discriminator="kind")]
