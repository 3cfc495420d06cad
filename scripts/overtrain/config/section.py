"""What every section of the configuration is: typed, closed to unknown keys, never changed.

A field's default, unit, bounds and one-line description stand beside it; the JSON schema that
editors use is made of them (`python tools/schema.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
)

from overtrain.config.hub import Asked


class Section(BaseModel):
    """A closed mapping of keys. Values stay what YAML reads: no text becomes a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def asked(self) -> Iterable[Asked]:
        """What it asks of the hub."""
        return ()

    def plain(self, *without: str) -> dict[str, Any]:
        """As a dictionary for a slice, without the keys that a result does not depend on.

        Optional keys that are not set are left out: a new option reruns nothing.
        """
        own = {name: getattr(self, name) for name in type(self).model_fields if name not in without}
        fields = type(self).model_fields
        return {k: plain(v) for k, v in own.items() if v is not None or fields[k].is_required()}


def plain(value: object) -> object:
    """A value of a section as JSON has it."""
    if isinstance(value, Section):
        return value.plain()
    if isinstance(value, dict):
        return {key: plain(own) for key, own in value.items()}
    return [plain(own) for own in value] if isinstance(value, list) else value


def dumps(slice_: dict) -> str:
    """A slice as text: Snakemake compares parameters by it, and an overlay may permute keys."""
    return json.dumps(slice_, sort_keys=True)


def distinct(items: list) -> list:
    """The items, if no two are equal."""
    if any(item in items[:i] for i, item in enumerate(items)):
        raise ValueError("its items must differ from each other")
    return items


def without_nulls(entries: object) -> object:
    """An overlay cannot remove an entry; null leaves it out."""
    if isinstance(entries, dict):
        return {name: entry for name, entry in entries.items() if entry is not None}
    return entries


def has(key: str, tag: str, other: str) -> Discriminator:
    """The tag of the kind of section that has a key, or the other kind's."""

    def tag_of(value: object) -> str:
        found = key in value if isinstance(value, dict) else hasattr(value, key)
        return tag if found else other

    return Discriminator(tag_of)


def listed(value: object) -> object:
    """One name stands for a list of it."""
    return [value] if isinstance(value, str) else value


T = TypeVar("T")

Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Distinct = Annotated[list[T], Field(min_length=1), AfterValidator(distinct)]  # Distinct[Seed]
Named = Annotated[dict[Name, T], BeforeValidator(without_nulls)]  # Named[Model]: entries by name
Package = Annotated[
    Text,
    Field(description="Import name of an installed package, or of a part of it (sympy.functions)"),
]
Repository = Annotated[Text, Field(description="Hub repository, or a local folder")]
Revision = Annotated[Text, Field(description="Branch, tag or commit")]
