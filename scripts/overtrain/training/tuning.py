"""What the tunings of released models on conversations share: settings, batches, what is measured.

Weights and moments are float32, products bfloat16 on GPUs (autocast): a step of learning rate 1e-6
is less than half the distance of neighbouring bfloat16 numbers for every weight above 2.6e-4, so
that weights in bfloat16 would not move. For the same reason what is saved is float32.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTTrainer

from overtrain import PipelineError
from overtrain.model.losses import Score
from overtrain.model.released import DIVERGED
from overtrain.records.measurements import loss_rows, row
from overtrain.records.provenance import seed_of, write_json
from overtrain.training.processes import Processes
from overtrain.training.trainer import Trained, WholeStates, arguments_for

SCHEDULERS = {"cosine": "cosine", "constant": "constant_with_warmup", "linear": "linear"}
LAST = 0.1  # of the steps: the training loss is the mean over them


@dataclass(frozen=True)
class AnyTuning:
    """What the weights of every tuning depend on."""

    model: str
    task: str
    recipe: str
    learning_rate: float
    seed: int
    batch_size: int
    epochs: int
    scheduler: str
    warmup_steps: float  # below 1, a share of all
    weight_decay: float
    betas: tuple[float, float]
    clip: float | None
    max_length: int
    precision: str
    template: str

    def seed_for(self, what: str) -> int:
        """A draw of its own for each seed; all learning rates of a seed share it."""
        return seed_of(what, self.model, self.task, self.recipe, self.seed)


class Trainer(WholeStates, SFTTrainer):
    """SFTTrainer with states that are whole or not there, and that tells nobody that it runs."""

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *_, **__) -> None:
        pass


def check(tuning: AnyTuning, processes: Processes, base: Path, rule: str) -> None:
    """PipelineError where processes cannot make the batch, or the model not hold max_length."""
    together = processes.micro_batch * processes.count
    if tuning.batch_size % together:
        raise PipelineError(
            f"batch_size {tuning.batch_size} is not a multiple of micro_batch "
            f"{processes.micro_batch} x {processes.count} processes (resources.{rule})"
        )
    context = json.loads((base / "config.json").read_text())["max_position_embeddings"]
    if tuning.max_length > context:
        raise PipelineError(
            f"{base}: its context is {context}; max_length of recipe {tuning.recipe} is "
            f"{tuning.max_length}"
        )


def batches(lengths: list[int], tuning: AnyTuning, kinds: list[bool] | None = None) -> np.ndarray:
    """Example numbers (steps, batch_size): whole batches of a permutation for each epoch.

    Sorted by length within a batch, longest first: micro-batches are slices of it, so they are of
    like lengths, and a memory that does not suffice shows in the first pass of a batch.

    kinds: of each example; all of a batch are of one kind, and batches come in any order.
    """
    size = tuning.batch_size
    of_kind = np.zeros(len(lengths), bool) if kinds is None else np.asarray(kinds)
    groups = [np.flatnonzero(of_kind == kind) for kind in np.unique(of_kind)]
    if all(len(group) < size for group in groups):
        raise PipelineError(f"{len(lengths)} examples to train on are less than one batch, {size}")
    draw = np.random.default_rng(tuning.seed_for("instruction order"))
    epochs = []
    for _ in range(tuning.epochs):
        whole = [draw.permutation(group)[: len(group) // size * size] for group in groups]
        rows = np.concatenate(whole).reshape(-1, size)
        epochs.append(rows if len(groups) == 1 else draw.permutation(rows))
    rows = np.concatenate(epochs)
    longest_first = np.argsort(-np.asarray(lengths)[rows], axis=1, kind="stable")
    return np.take_along_axis(rows, longest_first, axis=1)


def announce(examples: int, steps: int, tuning: AnyTuning, processes: Processes) -> None:
    """Say what is going to be trained."""
    print(f"{examples} examples, {steps} steps, {processes.count} x {processes.micro_batch}")
    if steps <= tuning.warmup_steps:
        print(f"warning: {steps} steps in all: warm-up over {tuning.warmup_steps} never ends")


def arguments(tuning: AnyTuning, processes: Processes, state: Path) -> dict[str, Any]:
    """The tuning in transformers' words."""
    return arguments_for(processes, tuning.batch_size, state) | {
        "num_train_epochs": 1,  # the data set is all epochs, in their order
        "train_sampling_strategy": "sequential",
        "learning_rate": tuning.learning_rate,
        "lr_scheduler_type": SCHEDULERS[tuning.scheduler],
        "warmup_steps": tuning.warmup_steps,
        "optim": "adamw_torch",
        "adam_beta1": tuning.betas[0],
        "adam_beta2": tuning.betas[1],
        "weight_decay": tuning.weight_decay,
        "max_grad_norm": tuning.clip or 0.0,
        "packing": False,
        "bf16": processes.cuda and tuning.precision == "bf16",
        "seed": tuning.seed_for("instruction seed") % 2**32,
    }


# --- what a run leaves ----------------------------------------------------------------------------


def leave_marker(folder: Path, steps: int, planned: int) -> None:
    """The folder of a run that diverged."""
    print(f"diverged at step {steps} of {planned}")
    write_json(folder / DIVERGED, {"step": steps, "steps": planned})


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A checkpoint directory: what benchmarks and held-out text read."""
    model.save_pretrained(folder, max_shard_size="1TB")
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def distance(before: nn.Module, after: nn.Module) -> float:
    """Euclidean norm of the change of all weights."""
    known = dict(before.named_parameters())
    squares = [(p - known[name]).double().square().sum() for name, p in after.named_parameters()]
    return float(torch.stack(squares).sum().sqrt())


def measurements(
    tuning: AnyTuning,
    identity: dict,
    trained: Trained,
    distances: dict[str, float],
    steps: int,
    score: Score | None,
) -> list[dict]:
    """Rows of one run; distances: by metric; `score`: None for a diverged run."""
    run = {"learning_rate": tuning.learning_rate, "seed": tuning.seed}
    own = identity | run | {"selection": "last"}
    training = own | {"evaluation": "training", "split": "train"}
    held_out = own | {"evaluation": "id", "split": "test"}
    last = max(1, round(LAST * steps))
    loss = math.nan if score is None else float(np.mean(trained.losses[-last:]))
    rows = [row(training, "loss", loss, n=last)]
    rows += [row(training, metric, value) for metric, value in distances.items()]
    if score is None:
        return rows + loss_rows(held_out, math.nan, math.nan, 0)
    return rows + score.rows(held_out, 0)
