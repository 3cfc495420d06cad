"""Measuring models several at a time: how many fit, and all snapshots of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from overtrain.model.losses import Score
from overtrain.model.memory import Room, in_use
from overtrain.model.olmo import LOGITS, read_architecture
from overtrain.model.snapshots import load_stacks


@dataclass(frozen=True)
class Stacks:
    """How models are measured: members of a stack, tokens of all of it in a pass, the device."""

    width: int
    batch_tokens: int
    device: torch.device

    @classmethod
    def within(cls, room: Room, checkpoint: Path) -> Stacks:
        """Stacks as wide as there is room for models of this checkpoint's shape.

        A pass has `batch_tokens` of the whole stack, or a window of each member where that is more:
        three copies of its logits, and eight activations of the MLP's width.
        """
        a = read_architecture(checkpoint)
        window = 8 * a.context * a.mlp_size
        logits = min(LOGITS, room.batch_tokens * a.vocabulary)
        fixed = 3 * logits + 8 * room.batch_tokens * a.mlp_size
        free = room.memory - in_use(room.device) - 4 * fixed
        width = max(1, free // (4 * (a.parameter_counts()["total"] + window)))
        return cls(width, room.batch_tokens, room.device)


def measure_sweep(
    base: Path, runs: Path, scores: dict[str, Callable[..., Score]], stacks: Stacks, identity: dict
) -> list[dict]:
    """Rows of every snapshot of a sweep and of its base; scores: a function by split."""
    rows = []
    with tqdm(desc=identity["evaluation"], unit="stack") as bar:
        for snapshots, model in load_stacks(base, runs, stacks.width, stacks.device):
            for split, score in scores.items():
                result = score(model, batch_tokens=stacks.batch_tokens)
                for place, snapshot in enumerate(snapshots):
                    own = identity | snapshot.identity() | {"split": split}
                    for selection in snapshot.selections:
                        rows += result.rows(own | {"selection": selection}, place)
            del model  # before the next stack takes its memory
            bar.update()
    return rows
