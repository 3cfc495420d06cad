"""Pre-training: one model to one token budget, resumable, on one process or several.

Paper, section 3.2 and Table 3: AdamW, a cosine to zero over each budget separately, 10 % warm-up.
The data order depends on the seed alone, so a smaller budget sees a prefix of what a larger one
sees; all budgets of a model and seed start from the same weights.

A killed training goes on from its last state (weights, optimizer moments, position; the random
generator is seeded anew from the position at every step), one that is asked to end saves one first,
and on a CPU both end bit-identical to one never stopped. The last step is saved, too: whatever
happens until the checkpoint is recorded, no step is done twice.

Several GPUs: a process for each, which takes its share of each batch; the flat gradient is averaged
once a step.
"""

from __future__ import annotations

import math
import os
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.data.corpora import Corpus, ordered_windows
from overtrain.data.tokenizer import load_encoder
from overtrain.model.architecture import Architecture
from overtrain.model.dropout import Dropout, Rates
from overtrain.model.olmo import Olmo, save_checkpoint
from overtrain.records.provenance import seed_of, whole_folder, write_json
from overtrain.training.optimizer import FlatAdamW
from overtrain.training.processes import launch, own_part, saving_states
from overtrain.training.schedule import fraction
from overtrain.training.states import load_state, prepare_state, save_state, told_of_full_disk

MODULE = "overtrain.training.pretrain"  # this one, for processes to run

CURVE_POINTS = 200  # points of the loss curve, each the mean over the steps since the last


@dataclass(frozen=True)
class Pretraining:
    """Everything a checkpoint depends on; `tokens` is its budget, `batch_size` counts windows."""

    model: str
    architecture: Architecture
    corpus: str
    tokens: int
    seed: int
    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float
    batch_size: int
    warmup: float
    clip: float
    dropout: Rates = field(default_factory=Rates)

    @property
    def steps(self) -> int:
        return max(1, round(self.tokens / (self.batch_size * self.architecture.context)))

    @classmethod
    def from_config(cls, slice_: dict) -> Pretraining:
        """From the configuration's slice for one checkpoint (see `catalogue.pretraining_slice`)."""
        settings = dict(slice_)
        settings["architecture"] = Architecture(**settings["architecture"])
        settings["dropout"] = Rates(**settings["dropout"])
        settings["betas"] = tuple(settings["betas"])
        return cls(**settings)


@dataclass(frozen=True)
class Workers:
    """How to run it, which must not change the result: windows per pass, minutes between states."""

    micro_batch: int
    state_minutes: float
    threads: int = 1  # of all processes together
    gpus: int = 0


class State:
    """Where a training stands: its optimizer, its loss curve, and the sums since the last point."""

    def __init__(self, folder: Path):
        self.path = folder / "state.pt"

    def save(self, optimizer: FlatAdamW, curve: list[tuple[float, ...]], total: Tensor) -> None:
        """total: this process's sum. To be called by all; the first writes."""
        totals = [total]
        if dist.is_initialized():
            totals = [torch.zeros_like(total) for _ in range(dist.get_world_size())]
            dist.all_gather(totals, total)
            if dist.get_rank():
                return
        content = {"curve": curve, "totals": [own.item() for own in totals]}
        with told_of_full_disk(self.path.parent):
            save_state(self.path, optimizer.state() | content)

    def load(self, optimizer: FlatAdamW, total: Tensor) -> list[tuple[float, ...]]:
        """Continue `optimizer` and `total` where the last state stood; the loss curve."""
        if not (state := load_state(self.path)):
            return []
        optimizer.restore(state)
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        totals = state["totals"]
        if len(totals) == world:
            total += totals[rank]
        elif not rank:
            total += sum(totals)
        if not rank:
            print(f"continuing from step {optimizer.steps:,}")
        return state["curve"]


def pretrain(
    plan: Pretraining, workers: Workers, corpus: Path, output: Path, state: Path, origin: dict
) -> None:
    """Train on the corpus folder and write the checkpoint directory `output`.

    origin: provenance to store with the weights. With more than one GPU this starts one process for
    each. The folder `state` stays: a training of the same plan and text goes on from there.
    """
    text = Corpus(corpus).manifest
    if text["vocabulary"] > plan.architecture.vocabulary:
        raise PipelineError(
            f"{corpus}: {text['vocabulary']} tokens; model {plan.model} has "
            f"{plan.architecture.vocabulary}"
        )
    prepare_state(state, asdict(plan) | {"text": text["sha256"]})
    if workers.gpus <= 1:
        train(plan, workers, corpus, output, state, origin)
        return
    paths = {"corpus": str(corpus), "output": str(output), "state": str(state)}
    content = {"plan": asdict(plan), "workers": asdict(workers), "origin": origin} | paths
    launch(MODULE, content, workers.gpus, workers.threads)


def train(
    plan: Pretraining,
    workers: Workers,
    corpus: Path,
    output: Path,
    state_folder: Path,
    origin: dict,
) -> None:
    """The training loop of one process; see `pretrain`."""
    cuda = workers.gpus > 0 and torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu")
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if plan.batch_size % world:
        raise PipelineError(f"batch_size {plan.batch_size} is not divisible by {world} processes")
    a = plan.architecture
    text = Corpus(corpus)
    if rank == 0:
        text.verify("train")
    windows = text.windows("train", a.context)
    order = seed_of("data order", plan.corpus, plan.seed)
    rows = ordered_windows(windows, order, print if rank == 0 else lambda _: None)

    model = Olmo(a).initialise(seed_of("initial weights", plan.model, plan.seed)).to(device)
    optimizer = FlatAdamW(model, plan.learning_rate, plan.betas, plan.weight_decay, plan.clip)
    state, total = State(state_folder), torch.zeros((), dtype=torch.float64, device=device)
    curve = state.load(optimizer, total)
    losses = torch.compile(model.losses) if cuda else model.losses
    precision = torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext()
    drop = Dropout(plan.dropout) if plan.dropout else None
    own = plan.batch_size // world  # windows of each batch that this process takes
    every = max(1, plan.steps // CURVE_POINTS)
    bar = tqdm(
        desc=f"{plan.model} {plan.tokens:,} tokens",
        total=plan.steps,
        initial=optimizer.steps,
        mininterval=5,
        disable=rank > 0,
    )
    with bar, saving_states(workers.state_minutes) as saving:
        while optimizer.steps < plan.steps:
            step = optimizer.steps
            if drop:
                seed = seed_of("dropout", plan.model, plan.tokens, plan.seed, step, rank)
                torch.manual_seed(seed)
            batch = torch.from_numpy(rows(step * plan.batch_size + rank * own, own)).to(device)
            for part in batch.split(workers.micro_batch):
                with precision:
                    # The micro-batch bounds the logits already: no chunks, nothing computed twice.
                    each = losses(part[:, :-1], part[:, 1:], drop, chunk=part.numel())
                    loss = each.sum() / (own * a.context)
                loss.backward()
                total += loss.detach()
            scale = fraction("cosine", step, plan.steps, plan.warmup)
            optimizer.step(scale, average if world > 1 else None)
            bar.update()
            if optimizer.steps % every == 0 or optimizer.steps == plan.steps:
                since = every if optimizer.steps % every == 0 else plan.steps % every
                if world > 1:
                    dist.all_reduce(total)
                mean = total.item() / world / since
                if not math.isfinite(mean):
                    raise PipelineError(
                        f"{plan.model}: the loss is {mean} at step {optimizer.steps}"
                    )
                seen = optimizer.steps * plan.batch_size * a.context
                curve.append((seen, mean, scale * plan.learning_rate))
                bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
                total.zero_()
            if optimizer.steps == plan.steps or saving.due():
                state.save(optimizer, curve, total)
                saving.saved(optimizer.steps, plan.steps)
        if rank == 0:
            write_checkpoint(model, corpus, output, curve, origin)


def average(gradient: Tensor) -> None:
    """Mean over all processes, in place."""
    dist.all_reduce(gradient)
    gradient /= dist.get_world_size()


def write_checkpoint(
    model: Olmo, corpus: Path, output: Path, curve: list[tuple[float, ...]], origin: dict
) -> None:
    """The Hugging Face directory, with muP's table, the loss curve and the provenance."""
    encoder = load_encoder(corpus)
    with whole_folder(output) as folder, told_of_full_disk(output.parent):
        save_checkpoint(model, folder, encoder.end_of_text)
        encoder.save(folder, model.architecture.context)
        names = ("tokens", "loss", "learning_rate")
        columns = dict(zip(names, zip(*curve, strict=True), strict=True))
        table = pa.table({name: list(values) for name, values in columns.items()})
        pq.write_table(table, folder / "loss.parquet")
        write_json(folder / "provenance.json", origin)


def main() -> None:
    """One of the processes that train together."""
    with own_part() as content:
        cuda = torch.cuda.is_available()
        dist.init_process_group("nccl" if cuda else "gloo")
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        plan, workers = Pretraining.from_config(content["plan"]), Workers(**content["workers"])
        corpus, output, state = (Path(content[name]) for name in ("corpus", "output", "state"))
        train(plan, workers, corpus, output, state, content["origin"])


if __name__ == "__main__":
    main()
