"""AdamW over one flat tensor, for one model or a stack with a learning rate per run.

Every parameter becomes a view into `weights`, and gradients are gathered into `gradient`, so that
clipping and the update are a handful of operations whatever the number of tensors or runs, and the
whole training state is three tensors. Shapes: (parameters,) for one model, (runs, parameters) for a
stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from overtrain.model.olmo import Olmo

CHANGED = ("weights", "mean", "square")  # tensors of the training state


class FlatAdamW:
    """AdamW (Loshchilov & Hutter 2019) with muP's learning-rate multipliers and a clip per run.

    `learning_rate` is a float, or (runs,) for a stack. muP multiplies the rate of a tensor and
    divides its weight decay by the same number (see `architecture`), so the decay per step needs no
    multiplier. `clip` bounds the L2 norm of each run's own gradient; None leaves it.
    """

    def __init__(
        self,
        model: Olmo,
        learning_rate: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        clip: float | None = 1.0,
        eps: float = 1e-8,
    ):
        named = list(model.named_parameters())
        self.parameters = [p for _, p in named]
        stack = () if model.runs is None else (model.runs,)
        device = named[0][1].device
        sizes = [p.numel() // (model.runs or 1) for _, p in named]
        self.weights = torch.empty(*stack, sum(sizes), device=device)
        self.gradient = torch.zeros_like(self.weights)
        self.mean = torch.zeros_like(self.weights)
        self.square = torch.zeros_like(self.weights)
        self.steps = 0
        self.sizes = sizes
        flat = [p.detach().flatten(len(stack)) for p in self.parameters]
        torch.cat(flat, dim=-1, out=self.weights)
        self._attach()
        multipliers = [model.architecture.lr_multiplier(name) for name, _ in named]
        self.multiplier = torch.repeat_interleave(
            torch.tensor(multipliers, device=device), torch.tensor(sizes, device=device)
        )
        rate = torch.as_tensor(learning_rate, dtype=torch.float32, device=device)
        self.rate = rate.view(*stack, 1) if rate.dim() else rate
        self.betas, self.weight_decay, self.clip, self.eps = betas, weight_decay, clip, eps
        self._update = torch.compile(update) if device.type == "cuda" else update

    def _attach(self) -> None:
        """Make every parameter a view into `weights`."""
        runs = self.weights.shape[:-1]
        for p, w in zip(self.parameters, self.weights.split(self.sizes, -1), strict=True):
            p.data, p.grad = w.view(*runs, *p.shape[len(runs) :]), None

    def keep(self, members: Tensor) -> None:
        """Go on with these members of the stack alone, (members,) their numbers."""
        self.weights, self.mean = self.weights[members], self.mean[members]
        self.square, self.gradient = self.square[members], self.gradient[members]
        self.rate = self.rate[members]
        self._attach()

    def state(self) -> dict:
        """What steps change, for `restore`."""
        return {"step": self.steps} | {name: getattr(self, name) for name in CHANGED}

    @torch.no_grad()
    def restore(self, state: dict) -> None:
        """Go on where the `state` stood of an optimizer of this shape."""
        self.steps = state["step"]
        for name in CHANGED:
            getattr(self, name).copy_(state[name])

    @torch.no_grad()
    def step(self, scale: float, average: Callable[[Tensor], None] | None = None) -> None:
        """One update at `scale` (the schedule's fraction) times the learning rate.

        Takes the parameters' gradients and leaves none behind; `average` may change the gathered
        gradient in place, as several processes do.
        """
        self.steps += 1
        flat = [p.grad.flatten(self.weights.dim() - 1) for p in self.parameters]
        torch.cat(flat, dim=-1, out=self.gradient)
        for p in self.parameters:
            p.grad = None
        if average:
            average(self.gradient)
        if self.clip is not None:
            norm = self.gradient.norm(dim=-1, keepdim=True)
            self.gradient.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        first, second = self.betas
        self._update(
            (self.weights, self.gradient, self.mean, self.square),
            rate=self.rate * scale / (1 - first**self.steps),
            multiplier=self.multiplier,
            decay=1 - self.rate * scale * self.weight_decay,
            root=torch.tensor(math.sqrt(1 - second**self.steps), device=self.weights.device),
            constants=(first, second, self.eps),
        )


def update(
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    rate: Tensor,
    multiplier: Tensor,
    decay: Tensor,
    root: Tensor,
    constants: tuple[float, float, float],
) -> None:
    """AdamW in place on weights, gradient, mean and square; constants: both betas, epsilon.

    `rate` already holds the schedule and the first bias correction.
    """
    weights, gradient, mean, square = state
    first, second, eps = constants
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    weights.mul_(decay)
    weights.sub_(mean / (square.sqrt() / root + eps) * multiplier * rate)
