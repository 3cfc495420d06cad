"""What released models' weights were drawn from, as a standard deviation for each tensor (C.2).

Kinds, by what the models' authors document:

    mitchell   OLMo-1B (`init_fn: mitchell`): normal with std 1 / sqrt(fan_in); what writes into the
               residual stream, attention's and the MLP's output, divided by sqrt(2 (layer + 1)),
               layers counted from 0
    normal     one `std` for every matrix: OLMo-2-7B (`init_fn: normal`, `init_std: 0.02`), Amber
               (transformers' LlamaForCausalLM, `initializer_range: 0.02`)

`cutoff`: draws beyond so many std are drawn again (null: none are). What is left has a smaller
standard deviation than the formula's parameter, by 1.3 % at OLMo's cutoff of 3; that smaller one is
the std at initialisation here. Vectors (RMSNorm's weights) start at a constant: their std is 0, and
they get no noise.
"""

from __future__ import annotations

import math
import re
from statistics import NormalDist

RESIDUAL = re.compile(r"\.layers\.(\d+)\.(?:self_attn\.o_proj|mlp\.down_proj)\.weight$")


def initial_std(initialisation: dict, name: str, shape: tuple[int, ...]) -> float:
    """Std at initialisation of the tensor `name` (transformers name), matrices (out, in).

    initialisation: kind, cutoff and, for `normal`, std. An embedding's rows are inputs of its size.
    """
    if len(shape) < 2:
        return 0.0
    if initialisation["kind"] == "normal":
        std = initialisation["std"]
    else:
        std = 1 / math.sqrt(shape[1])
        if found := RESIDUAL.search(name):
            std /= math.sqrt(2 * (int(found[1]) + 1))
    return std * truncated_std(initialisation["cutoff"])


def truncated_std(cutoff: float | None) -> float:
    """Std of a standard normal variable given that it lies within plus or minus `cutoff`."""
    if cutoff is None:
        return 1.0
    normal = NormalDist()
    inside = 2 * normal.cdf(cutoff) - 1
    return math.sqrt(1 - 2 * cutoff * normal.pdf(cutoff) / inside)
