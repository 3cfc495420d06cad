"""Fine-tuned weights between two rules: what is kept of a sweep's runs, written and read.

Weights are kept as the change from the base in bfloat16: the change is what a run is, and half the
bytes. A file holds the snapshots of one stack, each tensor (snapshots, out, in).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from overtrain import PipelineError
from overtrain.model.olmo import Olmo, load_tensors, read_architecture


@dataclass(frozen=True)
class Snapshot:
    """A run after one of its epochs, kept as its "best", its "last", or both."""

    learning_rate: float
    seed: int
    epoch: int
    selections: tuple[str, ...]

    def identity(self) -> dict:
        return {"learning_rate": self.learning_rate, "seed": self.seed, "epoch": self.epoch}


BASE = Snapshot(0.0, -1, 0, ("base",))  # the unmodified checkpoint


def save(snapshots: list[Snapshot], changes: dict[str, Tensor], path: Path) -> None:
    """changes: (snapshots, out, in) by tensor name; which snapshots goes into the metadata."""
    described = [s.identity() | {"selections": s.selections} for s in snapshots]
    save_file(changes, path, {"snapshots": json.dumps(described)})


@torch.no_grad()
def load_stacks(
    base: Path, runs: Path, width: int, device: torch.device
) -> Iterator[tuple[list[Snapshot], Olmo]]:
    """A sweep's snapshots in stacks of at most `width`, as base + change; base first.

    The first stack's first member is the unmodified checkpoint: every change is then taken against
    the same text, batch and arithmetic. PipelineError if there are no runs or not of this base.
    """
    a = read_architecture(base)
    weights = load_tensors(base)
    paths = sorted(runs.glob("*.safetensors"))
    if not paths:
        raise PipelineError(f"{runs}: no fine-tuned weights; run the sweep again")
    start = [BASE]
    for path in paths:
        with safe_open(path, "pt") as file:
            if set(file.keys()) != set(weights):
                raise PipelineError(f"{path}: its tensors are not those of {base}")
            described = json.loads(file.metadata()["snapshots"])
            snapshots = [Snapshot(**d | {"selections": tuple(d["selections"])}) for d in described]
            first = 0
            while first < len(snapshots):
                own = snapshots[first : first + width - len(start)]
                members = start + own
                model = Olmo(a, len(members)).to(device)
                for name, parameter in model.named_parameters():  # no second copy of the stack
                    parameter.copy_(weights[name])
                    changes = file.get_slice(name)[first : first + len(own)]
                    parameter[len(start) :] += changes.to(device).float()
                yield members, model
                del model, parameter, changes
                first += len(own)
                start = []
