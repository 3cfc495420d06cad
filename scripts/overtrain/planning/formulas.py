"""Floating-point operations of language models, and the bytes that they hold and move.

A multiplication with an addition is two operations. Products of matrices and of attention are
counted; norms, activations and the rest are a percent or two and are not. FLOPs are per token,
memory is in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from overtrain.config.hardware import ReleasedShape
from overtrain.config.models import Shape

FLOAT32, BFLOAT16 = 4, 2  # bytes of a number

UPDATE = 60
"""Bytes of memory that an AdamW step of float32 weights moves for each weight.

Read and write: the gradient out of the backward pass (4), gathering it (8), its norm (4), clipping
(8), weights, gradient and two moments in (16) and all but the gradient out (12), and the weights'
copies in bfloat16 for the passes (8). Counted in training/optimizer.py.
"""

STATE = 3 * FLOAT32  # bytes a weight of what training goes on from: weights and two moments


@dataclass(frozen=True)
class Size:
    """A model's shape as far as its cost depends on it."""

    layers: int
    width: int
    mlp: int
    vocabulary: int
    key_value: int
    tied: bool = False

    @classmethod
    def of(cls, shape: Shape | ReleasedShape) -> Size:
        """Of a model that is pre-trained here, or of a released one."""
        own = (shape.layers, shape.hidden_size, shape.mlp_size, shape.vocabulary)
        if isinstance(shape, Shape):
            return cls(*own, shape.hidden_size)
        return cls(*own, shape.key_value_size or shape.hidden_size, shape.tied)

    @property
    def trunk(self) -> int:
        """Weights of the layers: q and o, k and v, and SwiGLU's three matrices."""
        d, kv = self.width, self.key_value
        return self.layers * (2 * d * d + 2 * d * kv + 3 * d * self.mlp)

    @property
    def head(self) -> int:
        return self.vocabulary * self.width

    @property
    def weights(self) -> int:
        """All of them, the embedding among them."""
        return self.trunk + self.head * (1 if self.tied else 2)

    def attention(self, length: float) -> float:
        """FLOPs of scores and of their sums of values, a token of a sequence of `length`.

        2 x 2 x width x length a layer, of which causal attention needs half (Dao 2023,
        FlashAttention-2, section 4.1).
        """
        return 2 * self.layers * self.width * length

    def forward(self, length: float, scored: float = 1.0) -> float:
        """FLOPs of a pass: two for each weight of a product (Kaplan et al. 2020, section 2.1).

        The embedding is looked up and costs none. scored: the share of tokens that have logits.
        """
        return 2 * (self.trunk + scored * self.head) + self.attention(length)

    def training(self, length: float, scored: float = 1.0) -> float:
        """Forward and backward, which is twice the forward pass: 6 N with attention's share."""
        return 3 * self.forward(length, scored)

    def recomputed(self, length: float) -> float:
        """Training whose backward pass computes the forward pass again: 8 N."""
        return 4 * self.forward(length)

    def curvature(self, length: float, directions: int) -> float:
        """FLOPs of a gradient and of Hessian-vector products along so many directions.

        The gradient's graph is a forward and a backward pass, 3 F. The product with a direction is
        its backward pass, twice that (Pearlmutter 1994; Griewank and Walther 2008, section 3.4:
        a gradient costs a small constant times its function). One graph serves all directions.
        """
        return (3 + 6 * directions) * self.forward(length)

    def cache(self) -> int:
        """Bytes a token of keys and values in bfloat16."""
        return 2 * self.layers * self.key_value * BFLOAT16
