"""Fine-tuning: a sweep of learning rates x seeds, stacked in one batched model.

Each run is exactly the run it would be alone: it has its own learning rate, clip, moments and
dropout masks, and the data order of its seed, which all learning rates of a seed share. All epochs
are trained; of every run the epoch that is best on the validation split and the last one are kept
(paper, C.1: early stopping over epochs).

Weights are kept as the change from the base in bfloat16: the change is what a run is, and half the
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.architecture import IGNORE, Architecture
from overtrain.dropout import DropoutPerRun, Rates
from overtrain.evaluate import TaskSplit
from overtrain.measurements import row
from overtrain.olmo import LOGITS, Olmo, load_tensors, read_architecture
from overtrain.optimizer import FlatAdamW
from overtrain.provenance import seed_of, whole_folder
from overtrain.schedule import fraction
from overtrain.tasks import Examples, encode_choices, encode_texts, read_split, right_answers
from overtrain.tokenizer import load_encoder


@dataclass(frozen=True)
class Recipe:
    """Named fine-tuning hyperparameters (paper, Table 4)."""

    name: str
    learning_rates: list[float]
    seeds: list[int]
    batch_size: int
    epochs: int
    scheduler: str
    warmup: float
    weight_decay: float
    betas: tuple[float, float]
    clip: float | None
    dropout: Rates = field(default_factory=Rates)

    @classmethod
    def from_config(cls, name: str, settings: dict) -> Recipe:
        settings = dict(settings)
        settings["dropout"] = Rates(**settings["dropout"])
        settings["betas"] = tuple(settings["betas"])
        return cls(name=name, **settings)


@dataclass(frozen=True)
class Run:
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Snapshot:
    """A run after one of its epochs, kept as its "best", its "last", or both."""

    learning_rate: float
    seed: int
    epoch: int
    selections: tuple[str, ...]

    def identity(self) -> dict:
        return {"learning_rate": self.learning_rate, "seed": self.seed, "epoch": self.epoch}


@dataclass(frozen=True)
class Machine:
    """How to run it, not what: bytes of memory for the stack, tokens in a pass."""

    memory: int
    batch_tokens: int


def runs_per_stack(a: Architecture, sequences: int, length: int, memory: int) -> int:
    """How many runs fit into `memory` bytes, at least one.

    Per run: weights, gradient, two moments, the update and a copy of the embedding for its lookup
    in float32, and two kept snapshots in bfloat16; the activations that the backward pass needs,
    per token and layer about 16 vectors of the hidden size and 4 of the MLP's; logits with their
    gradient.
    """
    weights = a.parameter_counts()["total"] * (6 * 4 + 2 * 2)
    per_token = a.layers * (16 * a.hidden_size + 4 * a.mlp_size)
    positions = sequences * length
    logits = 3 * a.vocabulary * min(positions, max(1, LOGITS // a.vocabulary))
    activations = 4 * (per_token * positions + logits)
    return max(1, memory // (weights + activations))


def finetune(
    base: Path,
    task: Path,
    settings: dict,
    recipe: Recipe,
    machine: Machine,
    output: Path,
    identity: dict,
    device: torch.device,
) -> list[dict]:
    """Train every run of a sweep; write the snapshots' folder `output` and return measurements.

    The rows: validation loss by epoch (the choice of the best), and the L2 distance from the base
    of each snapshot (paper, Fig 8). settings: the task's (its `kind`, and what it has `loss_on`);
    identity: the columns that say which sweep it is.
    """
    a = read_architecture(base)
    weights = load_tensors(base)
    encoder = load_encoder(base)
    kind = settings["kind"]
    rows = read_split(task, "train", kind)
    if kind == "language_modelling":
        examples = encode_texts(rows, encoder, a.context)
    else:
        choices = encode_choices(rows, encoder, a.context)
        examples = right_answers(choices, settings["loss_on"])
    validation = TaskSplit(task, "validation", kind, encoder, a.context)
    runs = [Run(rate, seed) for seed in recipe.seeds for rate in recipe.learning_rates]
    length = int(examples.lengths.max())
    width = runs_per_stack(a, recipe.batch_size, length, machine.memory)
    print(f"{len(runs)} runs in stacks of at most {width}")
    print(f"{len(examples)} examples of at most {length} tokens")
    measurements = []
    steps = recipe.epochs * -(-len(examples) // recipe.batch_size)
    with (
        whole_folder(output) as folder,
        tqdm(total=steps * len(runs), unit="step", mininterval=5, desc=recipe.name) as bar,
    ):
        for number, start in enumerate(range(0, len(runs), width)):
            stack = Stack(a, weights, runs[start : start + width], recipe, identity["task"], device)
            measurements += stack.train(examples, validation, machine, identity, bar)
            stack.save(folder / f"{number:03d}.safetensors")
    return measurements


class Stack:
    """Some runs of a sweep, trained together."""

    def __init__(
        self,
        architecture: Architecture,
        base: dict[str, Tensor],
        runs: list[Run],
        recipe: Recipe,
        task: str,
        device: torch.device,
    ):
        self.runs, self.recipe, self.task, self.device = runs, recipe, task, device
        self.base = {name: tensor.to(device) for name, tensor in base.items()}
        self.model = Olmo(architecture, len(runs)).to(device).load(self.base)
        rates = torch.tensor([run.learning_rate for run in runs])
        self.optimizer = FlatAdamW(
            self.model, rates, recipe.betas, recipe.weight_decay, recipe.clip
        )
        self.drop = None
        if recipe.dropout:
            seeds = [seed_of("dropout", task, recipe.name, r.learning_rate, r.seed) for r in runs]
            self.drop = DropoutPerRun(recipe.dropout, seeds, device)
        self.best: list[tuple[int, dict[str, Tensor]]] = [(0, {})] * len(runs)  # epoch, change

    def train(
        self,
        examples: Examples,
        validation: TaskSplit,
        machine: Machine,
        identity: dict,
        bar: tqdm,
    ) -> list[dict]:
        recipe = self.recipe
        per_epoch = -(-len(examples) // recipe.batch_size)
        lowest = np.full(len(self.runs), np.inf)
        rows = []
        for epoch in range(1, recipe.epochs + 1):
            for batch, chosen in enumerate(self.batches(len(examples), epoch)):
                step = (epoch - 1) * per_epoch + batch
                scale = fraction(recipe.scheduler, step, recipe.epochs * per_epoch, recipe.warmup)
                self.step(examples, chosen, scale)
                bar.update(len(self.runs))
            score = validation.score(self.model, machine.batch_tokens)
            improved = score.loss < lowest  # False for NaN
            lowest = np.where(improved, score.loss, lowest)
            change = self.change()
            for r, run in enumerate(self.runs):
                # A run that is never finite keeps its first epoch, so that it is recorded as
                # diverged.
                if improved[r] or epoch == 1:
                    self.best[r] = (
                        epoch,
                        {name: delta[r].clone() for name, delta in change.items()},
                    )
                own = identity | {
                    "learning_rate": run.learning_rate,
                    "seed": run.seed,
                    "epoch": epoch,
                }
                own |= {"evaluation": "training", "split": "validation"}
                rows += score.rows(own, r)
        self.last = change
        distances = {"last": self.distances(change), "best": self.distances(self.best_change())}
        for snapshot, r in self.snapshots():
            for selection in snapshot.selections:
                own = identity | snapshot.identity() | {"selection": selection}
                own |= {"evaluation": "training", "split": "train"}
                rows.append(row(own, "l2_distance", float(distances[selection][r])))
        return rows

    def batches(self, n: int, epoch: int) -> Iterator[np.ndarray]:
        """Example numbers (runs, batch) of each step: a permutation for each seed and epoch."""
        seeds = sorted({run.seed for run in self.runs})
        orders = {
            seed: np.random.default_rng(
                seed_of("batch order", self.task, self.recipe.name, seed, epoch)
            ).permutation(n)
            for seed in seeds
        }
        order = np.stack([orders[run.seed] for run in self.runs])
        for start in range(0, n, self.recipe.batch_size):
            yield order[:, start : start + self.recipe.batch_size]

    def step(self, examples: Examples, chosen: np.ndarray, scale: float) -> None:
        """One step of every run on its own batch, (runs, batch) example numbers."""
        # Padding is cut, but dropout is drawn for every position: its shape must not depend on what
        # other runs of the stack happen to draw.
        length = int((examples.lengths if self.drop else examples.lengths[chosen]).max())
        inputs = torch.from_numpy(examples.inputs[chosen, :length]).to(self.device)
        targets = torch.from_numpy(examples.targets[chosen, :length]).to(self.device)
        cuda = self.device.type == "cuda"
        precision = torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext()
        with precision:
            losses = self.model.losses(inputs, targets, self.drop).flatten(1)
        counts = (targets != IGNORE).flatten(1).sum(1)
        (losses.sum(1) / counts).sum().backward()  # the sum keeps the runs' gradients apart
        self.optimizer.step(scale)

    @torch.no_grad()
    def change(self) -> dict[str, Tensor]:
        """Change of every weight from the base, (runs, out, in), bfloat16 on the CPU."""
        return {
            name: (parameter - self.base[name]).to(torch.bfloat16).cpu()
            for name, parameter in self.model.named_parameters()
        }

    def best_change(self) -> dict[str, Tensor]:
        return {name: torch.stack([b[name] for _, b in self.best]) for name in self.base}

    @staticmethod
    def distances(change: dict[str, Tensor]) -> Tensor:
        """L2 norm over all weights, (runs,)."""
        return sum(delta.float().pow(2).flatten(1).sum(1) for delta in change.values()).sqrt()

    def snapshots(self) -> list[tuple[Snapshot, int]]:
        """The epochs to keep of each run, and the run's place in the stack; best first."""
        found = []
        for r, run in enumerate(self.runs):
            best = self.best[r][0]
            last = self.recipe.epochs
            for epoch in sorted({best, last}):
                kept = tuple(n for n, e in (("best", best), ("last", last)) if e == epoch)
                found.append((Snapshot(run.learning_rate, run.seed, epoch, kept), r))
        return found

    def save(self, path: Path) -> None:
        """Changes (snapshots, out, in) by tensor name; which snapshots, in the file's metadata."""
        snapshots = self.snapshots()
        tensors = {}
        for name in self.base:
            parts = [
                self.best[r][1][name] if "best" in s.selections else self.last[name][r]
                for s, r in snapshots
            ]
            tensors[name] = torch.stack(parts)
        description = [s.identity() | {"selections": s.selections} for s, _ in snapshots]
        save_file(tensors, path, {"snapshots": json.dumps(description)})


def load_stacks(
    base: Path, runs: Path, width: int, device: torch.device
) -> Iterator[tuple[list[Snapshot], Olmo]]:
    """A sweep's snapshots in stacks of at most `width`, as base + change; base first.

    The first stack's first member is the unmodified checkpoint, selection "base" at learning rate
    0: every change is then taken against the same text, batch and arithmetic.
    """
    a = read_architecture(base)
    weights = load_tensors(base)
    paths = sorted(runs.glob("*.safetensors"))
    if not paths:
        raise PipelineError(f"{runs}: no fine-tuned weights; run the sweep again")
    start: list[Snapshot] = [Snapshot(0.0, -1, 0, ("base",))]
    for path in paths:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            if names != set(weights):
                raise PipelineError(f"{path}: its tensors are not those of {base}")
            described = json.loads(file.metadata()["snapshots"])
            snapshots = [Snapshot(**d | {"selections": tuple(d["selections"])}) for d in described]
            for first in range(0, len(snapshots), width):
                own = snapshots[first : first + width]
                tensors = {}
                for name, tensor in weights.items():
                    delta = file.get_slice(name)[first : first + width].float()
                    parts = torch.zeros(len(start), *tensor.shape)
                    tensors[name] = tensor + torch.cat([parts, delta])
                members = start + own
                yield members, Olmo(a, len(members)).load(tensors).to(device)
                start = []
