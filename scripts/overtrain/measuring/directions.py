"""Loss along one direction v from a checkpoint, and its second-order approximation (appendix D).

L(theta + lambda v) is measured at each lambda; beside it stand g.v and v^T H v / 2, so that
L(theta) + lambda g.v + lambda^2 v^T H v / 2 can be drawn. The gradient's term is in it because one
direction, unlike the mean over plus and minus, is not symmetric.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from overtrain.measuring.curvature import second_order_on_text
from overtrain.measuring.stacks import Stacks
from overtrain.model.examples import Examples
from overtrain.model.losses import language_modelling
from overtrain.model.olmo import MadeWhenAsked, Olmo, load_checkpoint, load_tensors
from overtrain.model.snapshots import Snapshot, load_stacks
from overtrain.records.measurements import row


def fine_tuning_direction(base: Path, runs: Path) -> tuple[Snapshot, dict[str, Tensor]]:
    """Fine-tuned minus base weights of the only run of a sweep after its last epoch (Fig 10)."""
    weights = load_tensors(base)
    for snapshots, model in load_stacks(base, runs, 2, torch.device("cpu")):  # its best and last
        for place, snapshot in enumerate(snapshots):
            if "last" in snapshot.selections:
                tuned = {name: p.detach()[place] for name, p in model.named_parameters()}
                return snapshot, {name: tuned[name] - weights[name] for name in weights}
    raise ValueError(f"{runs}: no run's last epoch is kept")


def loss_along(
    checkpoint: Path,
    direction: dict[str, Tensor],
    lambdas: list[float],
    text: Examples,
    stacks: Stacks,
    identity: dict,
) -> list[dict]:
    """Measurement rows: `slope`, nats for lambda 1, `half_curvature`, nats for lambda^2 = 1, and
    the mean `loss` per token at each lambda, which 0 should be among.
    """
    model = load_checkpoint(checkpoint).to(stacks.device)
    ((slope, curvature),) = second_order_on_text(model, text, [direction], stacks.batch_tokens)
    identity = identity | {"selection": "interpolated"}
    rows = [row(identity, "slope", slope), row(identity, "half_curvature", curvature / 2)]
    weights = load_tensors(checkpoint)
    starts = range(0, len(lambdas), stacks.width)
    for start in tqdm(starts, desc="direction", unit="stack", mininterval=5):
        own = lambdas[start : start + stacks.width]
        stack = Olmo(model.architecture, len(own)).to(stacks.device)

        def moved(name: str, own: list[float] = own) -> Tensor:
            return torch.stack([weights[name] + x * direction[name] for x in own])

        stack.load(MadeWhenAsked(moved))
        score = language_modelling(stack, text, stacks.batch_tokens)
        del stack  # before the next takes its memory
        for place, x in enumerate(own):
            loss, stderr = float(score.loss[place]), float(score.stderr[place])
            rows.append(row(identity | {"lambda": x}, "loss", loss, stderr, score.n))
    return rows
