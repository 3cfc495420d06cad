"""Slope and curvature of a loss along directions, exact, without the Hessian (appendix D)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from overtrain.model.examples import Examples
from overtrain.model.olmo import LOGITS, Olmo

Tensors = dict[str, Tensor]


def second_order(
    loss: Callable[[Tensors], Tensor], weights: Tensors, directions: list[Tensors]
) -> np.ndarray:
    """g.v and v^T H v of `loss` at `weights` along each direction v, (directions, 2), float64.

    loss: weights to a scalar. H v is the gradient of (gradient . v): torch's second derivative in
    forward mode is wrong through layer_norm (2.13), and only the plain form of attention can be
    differentiated twice.
    """
    with sdpa_kernel(SDPBackend.MATH):
        gradient, product = vjp(grad(loss), weights)  # one graph for all directions
        return np.array([[dot(gradient, v), dot(product(v)[0], v)] for v in directions])


def dot(a: Tensors, b: Tensors) -> float:
    return sum((a[name] * b[name]).sum(dtype=torch.float64).item() for name in b)


def second_order_on_text(
    model: Olmo, text: Examples, directions: list[Tensors], batch_tokens: int
) -> np.ndarray:
    """`second_order` of the mean loss per token on `text`, in nats.

    text: whole windows, every target counts. The graph of second derivatives keeps many times what
    a pass without gradients does, so a batch is a sixteenth of `batch_tokens`.
    """
    device = model.lm_head.weight.device
    directions = [{name: tensor.to(device) for name, tensor in v.items()} for v in directions]
    tokens = min(batch_tokens, LOGITS // model.architecture.vocabulary) // 16
    rows = max(1, tokens // len(text.inputs[0]))
    weights = {name: p.detach() for name, p in model.named_parameters()}
    sums = np.zeros((len(directions), 2))
    for start in tqdm(range(0, len(text), rows), desc="curvature", unit="batch", mininterval=5):
        inputs = torch.from_numpy(text.inputs[start : start + rows]).to(device)
        targets = torch.from_numpy(text.targets[start : start + rows]).to(device).flatten()

        def loss(own: Tensors, inputs=inputs, targets=targets) -> Tensor:
            logits = functional_call(model, own, (inputs,)).flatten(0, -2)
            return F.cross_entropy(logits, targets, reduction="sum")

        sums += second_order(loss, weights, directions)
    return sums / text.targets.size
