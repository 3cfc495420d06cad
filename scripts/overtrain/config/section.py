"""What every section of the configuration is: typed, closed to unknown keys, never changed.

A field's default, unit, bounds and one-line description stand beside it; the JSON schema that
editors use is made of them (`python -m overtrain.config.schema`).
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


class Section(BaseModel):
    """A closed mapping of keys. Numbers stay what YAML reads: no text becomes a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def distinct(items: list) -> list:
    """The items, if no two are equal."""
    if any(item in items[:i] for i, item in enumerate(items)):
        raise ValueError("its items must differ from each other")
    return items


Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]

T = TypeVar("T")
Distinct = Annotated[list[T], Field(min_length=1), AfterValidator(distinct)]  # Distinct[Seed]
