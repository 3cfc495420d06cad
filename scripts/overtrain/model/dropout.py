"""Dropout on the embedding, the attention weights and the output of each block (paper, Table 3).

transformers' Olmo has only the one on attention; OLMo's own code, in which the paper trained, has
all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Rates:
    """Probability of dropping an element, by place."""

    attention: float = 0.0
    embedding: float = 0.0
    residual: float = 0.0

    def __bool__(self) -> bool:
        return max(self.attention, self.embedding, self.residual) > 0


class Dropout:
    """Dropout from torch's global random generator, for one model."""

    def __init__(self, rates: Rates):
        self.rates = rates

    def apply(self, x: Tensor, rate: float) -> Tensor:
        return F.dropout(x, rate)

    def embedding(self, x: Tensor) -> Tensor:
        return self.apply(x, self.rates.embedding)

    def residual(self, x: Tensor) -> Tensor:
        return self.apply(x, self.rates.residual)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention of q, k, v (batch, heads, length, head_size)."""
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=self.rates.attention
        )


class DropoutPerRun(Dropout):
    """Dropout of a stack, a generator for each run, so that it trains as it would alone."""

    def __init__(self, rates: Rates, seeds: list[int], device: torch.device):
        super().__init__(rates)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def apply(self, x: Tensor, rate: float) -> Tensor:
        if rate == 0:
            return x
        shape = (x.numel() // len(self.generators),)
        draws = [torch.rand(shape, generator=g, device=x.device) for g in self.generators]
        keep = torch.stack(draws).view(x.shape) >= rate
        return x * keep / (1 - rate)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As the parent; runs x batch stand in the first dimension, runs outermost."""
        length = q.shape[-2]
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
        return self.apply(weights, self.rates.attention) @ v
