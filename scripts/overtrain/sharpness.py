"""Sharpness of a checkpoint and its sensitivity to small noise, on the same draws (appendix D).

For noise e with C.2's covariance Sigma (each tensor's std at initialisation, squared), a quadratic
loss rises by gamma^2 Tr(H Sigma) / 2 on average (Proposition D.1, for noise that is not isotropic).
The trace is Hutchinson's estimate, the mean of e^T H e; the rise is measured at plus and minus e,
which cancels the gradient's term, so that the two agree draw by draw where the loss is quadratic.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from overtrain.evaluate import language_modelling
from overtrain.measurements import row
from overtrain.olmo import LOGITS, Olmo, load_checkpoint, load_tensors
from overtrain.perturb import initial_std, noise, perturbed
from overtrain.tasks import Examples


def curvatures(
    model: Olmo, text: Examples, directions: list[dict[str, Tensor]], batch_tokens: int
) -> np.ndarray:
    """v^T H v of the mean loss per token on `text`, (directions,), float64, nats.

    text: whole windows, every target counts. H v is the gradient of (gradient . v): torch's second
    derivative in forward mode is wrong through layer_norm (2.13), and only the plain form of
    attention can be differentiated twice.
    """
    context = text.inputs.shape[1]
    vocabulary = model.architecture.vocabulary
    rows = max(1, min(batch_tokens, LOGITS // vocabulary) // context)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    device = model.lm_head.weight.device
    sums = np.zeros(len(directions))
    for start in tqdm(range(0, len(text), rows), desc="curvature", unit="batch", mininterval=5):
        inputs = torch.from_numpy(text.inputs[start : start + rows]).to(device)
        targets = torch.from_numpy(text.targets[start : start + rows]).to(device)

        def loss(own: dict[str, Tensor], inputs=inputs, targets=targets) -> Tensor:
            logits = functional_call(model, own, (inputs,)).float().flatten(0, -2)
            return torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum")

        with sdpa_kernel(SDPBackend.MATH):
            _, product = vjp(grad(loss), weights)  # one graph for all directions
            for place, v in enumerate(directions):
                (hv,) = product(v)
                sums[place] += sum((hv[n] * v[n]).sum(dtype=torch.float64).item() for n in v)
    return sums / text.targets.size


def sharpness(
    checkpoint: Path,
    text: Examples,
    gammas: list[float],
    seeds: list[int],
    width: int,
    batch_tokens: int,
    identity: dict,
    device: torch.device,
) -> list[dict]:
    """Measurement rows of each noise seed.

    `half_curvature`, e^T H e / 2, nats for gamma 1; `loss_change` at each gamma, in nats,
    (L(theta + gamma e) + L(theta - gamma e)) / 2 - L(theta).
    """
    weights, std = load_tensors(checkpoint), initial_std(checkpoint)
    model = load_checkpoint(checkpoint).to(device)
    directions = [
        {
            name: (std[name] * noise(identity["model"], name, seed, tensor.shape)).to(device)
            for name, tensor in weights.items()
        }
        for seed in seeds
    ]
    identity = identity | {"selection": "noise"}
    halves = curvatures(model, text, directions, batch_tokens) / 2
    rows = [
        row(identity | {"seed": seed}, "half_curvature", float(half))
        for seed, half in zip(seeds, halves, strict=True)
    ]
    members = [(0.0, 0)] + [(s * g, seed) for g in gammas for seed in seeds for s in (1, -1)]
    losses = {}
    for start in tqdm(range(0, len(members), width), desc="noise", unit="stack", mininterval=5):
        own = members[start : start + width]
        stack = Olmo(model.architecture, len(own))
        stack.load(perturbed(weights, std, identity["model"], own)).to(device)
        losses |= dict(zip(own, language_modelling(stack, text, batch_tokens).loss, strict=True))
    for gamma in gammas:
        for seed in seeds:
            change = (losses[gamma, seed] + losses[-gamma, seed]) / 2 - losses[0.0, 0]
            rows.append(row(identity | {"gamma": gamma, "seed": seed}, "loss_change", change))
    return rows
