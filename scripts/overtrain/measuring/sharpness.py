"""Sharpness of a checkpoint and its sensitivity to small noise, on the same draws (appendix D).

For noise e with C.2's covariance Sigma (each tensor's std at initialisation, squared), a quadratic
loss rises by gamma^2 Tr(H Sigma) / 2 on average (Proposition D.1, for noise that is not isotropic).
The trace is Hutchinson's estimate, the mean of e^T H e; the rise is measured at plus and minus e,
which cancels the gradient's term, so that the two agree draw by draw where the loss is quadratic.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from overtrain.measuring.curvature import second_order_on_text
from overtrain.measuring.perturb import Noise, gaussian_direction, initial_std, perturbed
from overtrain.measuring.stacks import Stacks
from overtrain.model.examples import Examples
from overtrain.model.losses import language_modelling
from overtrain.model.olmo import Olmo, load_checkpoint, load_tensors
from overtrain.records.measurements import row


def sharpness(
    checkpoint: Path, text: Examples, noise: Noise, stacks: Stacks, identity: dict
) -> list[dict]:
    """Measurement rows of each noise seed.

    `half_curvature`, e^T H e / 2, nats for gamma 1; `loss_change` at each gamma, in nats,
    (L(theta + gamma e) + L(theta - gamma e)) / 2 - L(theta).
    """
    weights, std = load_tensors(checkpoint), initial_std(checkpoint)
    model = load_checkpoint(checkpoint).to(stacks.device)
    directions = [gaussian_direction(checkpoint, identity["model"], seed) for seed in noise.seeds]
    identity = identity | {"selection": "noise"}
    halves = second_order_on_text(model, text, directions, stacks.batch_tokens)[:, 1] / 2
    rows = [
        row(identity | {"seed": seed}, "half_curvature", float(half))
        for seed, half in zip(noise.seeds, halves, strict=True)
    ]
    sizes = [(gamma, seed) for gamma in noise.gammas for seed in noise.seeds]
    members = [(0.0, 0)] + [(sign * gamma, seed) for gamma, seed in sizes for sign in (1, -1)]
    losses: dict[tuple[float, int], float] = {}
    starts = range(0, len(members), stacks.width)
    for start in tqdm(starts, desc="noise", unit="stack", mininterval=5):
        own = members[start : start + stacks.width]
        stack = Olmo(model.architecture, len(own)).to(stacks.device)
        stack.load(perturbed(weights, std, identity["model"], own))
        score = language_modelling(stack, text, stacks.batch_tokens)
        losses |= dict(zip(own, score.loss, strict=True))
        del stack  # before the next takes its memory
    for gamma, seed in sizes:
        change = (losses[gamma, seed] + losses[-gamma, seed]) / 2 - losses[0.0, 0]
        rows.append(row(identity | {"gamma": gamma, "seed": seed}, "loss_change", change))
    return rows
