"""Learning-rate schedules, as the fraction of the peak at each step."""

from __future__ import annotations

import math


def fraction(scheduler: str, step: int, steps: int, warmup: float) -> float:
    """Fraction of the peak learning rate for `step` in 0 .. steps - 1.

    `warmup` is the share of the steps over which the rate rises linearly to its peak. Then
    `cosine` falls to zero at the last step and `constant` stays (paper, section 3.2 and Table 4).
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if scheduler == "constant":
        return 1.0
    if scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - rising) / max(1, steps - rising)))
    raise ValueError(f"scheduler {scheduler!r} is not cosine or constant")
