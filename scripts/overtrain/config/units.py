"""Token budgets as people write them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
Budget = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?[KMBT]$"),
    Field(description="Token budget such as 4B or 0.84M"),
]


def tokens_of(budget: str) -> int:
    """4B -> 4000000000, 0.84M -> 840000."""
    return round(float(budget[:-1]) * UNITS[budget[-1]])
