"""Fine-tuning: a sweep of learning rates x seeds, stacked in one batched model.

Each run is the run it would be alone, to rounding: it has its own learning rate, clip, moments and
dropout masks, and the data order of its seed, which all learning rates of a seed share. All epochs
are trained; of every run the epoch that is best on the validation split and the last one are kept
(paper, C.1: early stopping over epochs). A run whose validation loss is not finite leaves the stack
at the end of that epoch.

Little is computed for nothing: a batch's short and long sequences are taken apart where padding
them together costs more, and only positions with a target have logits. How many runs share a stack
may show in a number's last digits.

A stopped sweep goes on from its states (`sweep_states`) and on a CPU ends bit-identical to one that
was not stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from overtrain.data.tasks import read_split
from overtrain.data.tokenizer import load_encoder
from overtrain.model import snapshots as kept
from overtrain.model.architecture import IGNORE, Architecture
from overtrain.model.dropout import DropoutPerRun, Rates
from overtrain.model.examples import ENCODERS, Choices, Examples, right_answers
from overtrain.model.losses import TaskSplit, sequence_losses, target_positions
from overtrain.model.memory import Room, stack_width
from overtrain.model.olmo import Olmo, load_tensors, read_architecture
from overtrain.model.snapshots import Snapshot
from overtrain.records.kept import link
from overtrain.records.measurements import row
from overtrain.records.provenance import seed_of, whole_folder
from overtrain.training.optimizer import FlatAdamW
from overtrain.training.processes import saving_states
from overtrain.training.schedule import fraction
from overtrain.training.states import told_of_full_disk
from overtrain.training.sweep_states import StackStates, SweepFolders


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
class Task:
    """A task's folder, its kind and, of classification, whether on answers or the whole text."""

    folder: Path
    kind: str
    loss_on: str = "all"


def finetune(
    base: Path, task: Task, recipe: Recipe, room: Room, identity: dict, folders: SweepFolders
) -> list[dict]:
    """Train every run of a sweep; write the folder of its snapshots and return measurements.

    The rows: validation loss by epoch (the choice of the best), and the L2 distance from the base
    of each snapshot (paper, Fig 8). identity: the columns that say which sweep it is.
    """
    a = read_architecture(base)
    weights = load_tensors(base)
    encoder = load_encoder(base)
    rows = read_split(task.folder, "train", task.kind)
    data = ENCODERS[task.kind](rows, encoder, a.context)
    examples = right_answers(data, task.loss_on) if isinstance(data, Choices) else data
    validation = TaskSplit(task.folder, "validation", task.kind, encoder, a.context)
    runs = [Run(rate, seed) for seed in recipe.seeds for rate in recipe.learning_rates]

    def stack_of(own: list[Run]) -> Stack:
        return Stack(a, weights, own, recipe, identity["task"], room)

    def probe(members: int) -> None:
        """The most that a stack holds at a time: a batch of the longest, an evaluation's batch."""
        stack = stack_of(runs[:members])
        order = np.argsort(-examples.lengths)[: recipe.batch_size]
        stack.step(examples, np.tile(order, (len(stack.seeds), 1)), 0.0)
        longest = validation.examples.longest(room.batch_tokens // members)
        sequence_losses(stack.model, longest, room.batch_tokens)
        stack.keep_epoch(1, np.ones(members, bool))

    least = 16 * a.parameter_counts()["total"]  # weights, gradient, two moments in float32
    width = stack_width(probe, len(runs), room.memory, least, room.device)
    settings = {"kind": task.kind, "loss_on": task.loss_on, "recipe": asdict(recipe)}
    width = folders.stack_width(settings | {"sweep": identity}, width)
    print(f"{len(runs)} runs in stacks of at most {width}")
    print(f"{len(examples)} examples of at most {examples.lengths.max()} tokens")
    stacks = [runs[start : start + width] for start in range(0, len(runs), width)]
    steps = recipe.epochs * -(-len(examples) // recipe.batch_size)
    measurements = []
    with (
        told_of_full_disk(folders.state),
        whole_folder(folders.output) as folder,
        saving_states(folders.minutes) as saving,
        tqdm(total=steps * len(runs), unit="step", mininterval=5, desc=recipe.name) as bar,
    ):
        for number, own in enumerate(stacks):
            at = StackStates(folders.state, number, saving, number * steps, len(stacks) * steps)
            if not at.weights.exists():
                stack = stack_of(own)
                at.go_on(stack)
                bar.update(stack.done * len(own))
                at.finish(stack, stack.train(examples, validation, identity, bar, at.after_step))
                del stack  # before the next takes its memory
            else:
                print(f"stack {number + 1} of {len(stacks)} was trained by an earlier attempt")
                bar.update(steps * len(own))
            link(at.weights, folder / at.weights.name)
            measurements += at.rows()
    return measurements


class Stack:
    """Some runs of a sweep, trained together; `going` are the numbers of those still in it."""

    def __init__(
        self,
        architecture: Architecture,
        base: dict[str, Tensor],
        runs: list[Run],
        recipe: Recipe,
        task: str,
        room: Room,
    ):
        self.runs, self.recipe, self.task = runs, recipe, task
        self.device, self.batch_tokens = room.device, room.batch_tokens
        self.going = np.arange(len(runs))
        self.seeds = sorted({run.seed for run in runs})
        self.row = np.array([self.seeds.index(run.seed) for run in runs])  # of a run in a batch
        self.model = Olmo(architecture, len(runs)).to(self.device).load(base)
        rates = torch.tensor([run.learning_rate for run in runs])
        self.optimizer = FlatAdamW(
            self.model, rates, recipe.betas, recipe.weight_decay, recipe.clip
        )
        self.base = self.optimizer.weights[0].clone()
        self.shapes = {name: p.shape[1:] for name, p in self.model.named_parameters()}
        self.drop = None
        if recipe.dropout:
            seeds = [seed_of("dropout", task, recipe.name, r.learning_rate, r.seed) for r in runs]
            self.drop = DropoutPerRun(recipe.dropout, seeds, self.device)
        # Changes from the base, (runs, parameters): of each run's best epoch so far, of its last.
        size = (len(runs), len(self.base))
        self.best = torch.full(size, torch.nan, dtype=torch.bfloat16, device=self.device)
        self.last = self.best.clone()
        self.best_epoch = np.ones(len(runs), int)
        self.lowest = np.full(len(runs), np.inf)  # validation loss so far
        self.rows: list[dict] = []  # of the epochs so far
        self.done = 0  # steps

    def train(
        self,
        examples: Examples,
        validation: TaskSplit,
        identity: dict,
        bar: tqdm,
        after_step: Callable[[Stack], None],
    ) -> list[dict]:
        """All epochs of all runs; rows of measurements, NaN for a run that has left.

        Goes on after the steps that are done, and calls `after_step` as long as a run is going.
        """
        recipe = self.recipe
        per_epoch = -(-len(examples) // recipe.batch_size)
        begun = -(-self.done // per_epoch)  # the epoch of the last step: its end is not done
        for epoch in range(max(1, begun), recipe.epochs + 1):
            for batch, chosen in enumerate(self.batches(len(examples), epoch)):
                step = (epoch - 1) * per_epoch + batch
                if step < self.done:
                    continue
                scale = fraction(recipe.scheduler, step, recipe.epochs * per_epoch, recipe.warmup)
                self.step(examples, chosen, scale)
                self.done = step + 1
                bar.update(len(self.runs))
                if len(self.going):
                    after_step(self)
            if len(self.going):  # else: NaN as before
                score = validation.score(self.model, self.batch_tokens)
                score = score.placed(self.going, len(self.runs))
            improved = score.loss < self.lowest  # False for NaN
            self.lowest = np.where(improved, score.loss, self.lowest)
            # A run that is never finite keeps its first epoch, and is recorded as diverged.
            self.keep_epoch(epoch, improved | (epoch == 1))
            for r, run in enumerate(self.runs):
                own = identity | {"learning_rate": run.learning_rate, "seed": run.seed}
                own |= {"epoch": epoch, "evaluation": "training", "split": "validation"}
                self.rows += score.rows(own, r)
            self.leave(np.isfinite(score.loss[self.going]))
        # Not norm(): in float32 it loses digits over millions of changes of nearly the same size.
        rows = list(self.rows)
        distances = {n: c.float().square_().sum(1).sqrt() for n, c in self.changes().items()}
        for snapshot, r in self.snapshots():
            for selection in snapshot.selections:
                own = identity | snapshot.identity() | {"selection": selection}
                own |= {"evaluation": "training", "split": "train"}
                rows.append(row(own, "l2_distance", float(distances[selection][r])))
        return rows

    def batches(self, n: int, epoch: int) -> Iterator[np.ndarray]:
        """Example numbers (seeds, batch) of each step: a permutation for each seed and epoch."""
        order = np.stack(
            [
                np.random.default_rng(
                    seed_of("batch order", self.task, self.recipe.name, seed, epoch)
                ).permutation(n)
                for seed in self.seeds
            ]
        )
        for start in range(0, n, self.recipe.batch_size):
            yield order[:, start : start + self.recipe.batch_size]

    def step(self, examples: Examples, chosen: np.ndarray, scale: float) -> None:
        """One step of every run on the batch of its seed, (seeds, batch) example numbers."""
        if not len(self.going):
            return
        row = self.row[self.going]
        counts = (examples.targets[chosen] != IGNORE).sum((1, 2))[row]
        counts = torch.from_numpy(counts).to(self.device)
        cuda = self.device.type == "cuda"
        # Dropout is drawn for every position: its shape must not depend on what other runs draw.
        tokens = self.batch_tokens // len(self.going)
        parts = [chosen] if self.drop else by_length(chosen, examples.lengths, tokens)
        for part in parts:
            length = int((examples.lengths if self.drop else examples.lengths[part]).max())
            targets = examples.targets[part, :length]
            where = target_positions(targets)
            if where is not None:
                targets = np.take_along_axis(targets.reshape(len(targets), -1), where, axis=1)
            arrays = (examples.inputs[part, :length], targets, where)
            # (seeds, ...) to (runs, ...): learning rates of a seed share its batch.
            inputs, targets, where = (
                None if array is None else torch.from_numpy(array).to(self.device)[row]
                for array in arrays
            )
            with torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext():
                losses = self.model.losses(inputs, targets, self.drop, where=where).flatten(1)
            (losses.sum(1) / counts).sum().backward()  # the sum keeps the runs' gradients apart
        self.optimizer.step(scale)

    @torch.no_grad()
    def keep_epoch(self, epoch: int, improved: np.ndarray) -> None:
        """Keep the weights as they are as the runs' last, and as the best of the `improved`."""
        change = (self.optimizer.weights - self.base).to(torch.bfloat16)
        self.last.fill_(torch.nan)
        self.last[self.going] = change
        better = self.going[improved[self.going]]
        self.best[better] = self.last[better]
        self.best_epoch[improved] = epoch

    def leave(self, finite: np.ndarray) -> None:
        """Drop the runs that have diverged, (going,), from the stack."""
        if finite.all():
            return
        members = np.flatnonzero(finite)
        self.going = self.going[members]
        self.optimizer.keep(torch.from_numpy(members).to(self.device))
        self.model.runs = len(members)
        if self.drop:
            self.drop.generators = [self.drop.generators[m] for m in members]

    def state(self) -> dict:
        """What training changes, for `restore`."""
        return {
            "optimizer": self.optimizer.state(),
            "done": self.done,
            "going": self.going.tolist(),
            "generators": [g.get_state() for g in self.drop.generators] if self.drop else [],
            "changes": self.changes(),
            "best_epoch": self.best_epoch.tolist(),
            "lowest": self.lowest.tolist(),
            "rows": self.rows,
        }

    def restore(self, state: dict) -> None:
        """Go on, in a new stack, where the `state` stood of one of the same runs."""
        self.leave(np.isin(self.going, state["going"]))
        self.optimizer.restore(state["optimizer"])
        if self.drop:
            for generator, own in zip(self.drop.generators, state["generators"], strict=True):
                generator.set_state(own)
        for name, change in self.changes().items():
            change.copy_(state["changes"][name])
        self.best_epoch, self.lowest = np.array(state["best_epoch"]), np.array(state["lowest"])
        self.rows, self.done = state["rows"], state["done"]

    def changes(self) -> dict[str, Tensor]:
        return {"best": self.best, "last": self.last}

    def snapshots(self) -> list[tuple[Snapshot, int]]:
        """The epochs to keep of each run, and the run's place in the stack; best first."""
        found = []
        for r, run in enumerate(self.runs):
            best = int(self.best_epoch[r])
            last = self.recipe.epochs
            for epoch in sorted({best, last}):
                own = tuple(n for n, e in (("best", best), ("last", last)) if e == epoch)
                found.append((Snapshot(run.learning_rate, run.seed, epoch, own), r))
        return found

    def save(self, path: Path) -> None:
        """Write the snapshots' changes, split into the model's tensors."""
        snapshots = self.snapshots()
        changes = self.changes()
        rows = torch.stack([changes[s.selections[0]][r] for s, r in snapshots]).cpu()
        sizes = [shape.numel() for shape in self.shapes.values()]
        tensors = {
            name: part.reshape(-1, *shape).contiguous()
            for (name, shape), part in zip(self.shapes.items(), rows.split(sizes, 1), strict=True)
        }
        kept.save([s for s, _ in snapshots], tensors, path)


def by_length(chosen: np.ndarray, lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """A batch, (seeds, batch) example numbers, in parts of like lengths and of at most `tokens`.

    Sorted, it is halved as long as that saves a fifth of its padded positions: less is not worth
    more and smaller products.
    """
    order = np.argsort(lengths[chosen], axis=1, kind="stable")
    return halves(np.take_along_axis(chosen, order, axis=1), lengths, tokens)


def halves(chosen: np.ndarray, lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    middle = chosen.shape[1] // 2
    if middle:
        parts = chosen[:, :middle], chosen[:, middle:]
        whole, *halved = (part.shape[1] * lengths[part].max() for part in (chosen, *parts))
        if whole > tokens or sum(halved) < 0.8 * whole:
            return [piece for part in parts for piece in halves(part, lengths, tokens)]
    return [chosen]
