"""Token budgets as people write and read them."""

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


def tokens_text(tokens: float) -> str:
    """1680000 -> 1.68M; a number is rounded to three digits."""
    for unit, size in reversed(UNITS.items()):
        if tokens >= 0.5 * size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:g}"
