"""Pre-training: one model to one token budget, resumable, on one process or several.

Paper, section 3.2 and Table 3: AdamW, a cosine to zero over each budget separately, 10 % warm-up.
The data order depends on the seed alone, so a smaller budget sees a prefix of what a larger one
sees; all budgets of a model and seed start from the same weights.

A killed job goes on from its last state (weights, optimizer moments, position; the random generator
is seeded anew from the position at every step) and on a CPU ends bit-identical to one never killed.

Several GPUs: `python -m torch.distributed.run ... -m overtrain.training.pretrain job.json`; every
process takes its share of each batch and the flat gradient is averaged once a step.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.data.corpora import Corpus, ordered_windows
from overtrain.data.tokenizer import load_encoder
from overtrain.model.architecture import Architecture
from overtrain.model.dropout import Dropout, Rates
from overtrain.model.olmo import Olmo, save_checkpoint
from overtrain.records.provenance import seed_of, whole_file, whole_folder, write_json
from overtrain.training.optimizer import FlatAdamW
from overtrain.training.schedule import fraction

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
    """How to run it, which must not change the result: windows per pass, seconds between states."""

    micro_batch: int
    state_seconds: float
    threads: int = 1
    gpus: int = 0


class State:
    """The resumable state of a job, outside the rule's outputs: Snakemake clears those."""

    def __init__(self, folder: Path, identity: dict):
        self.path = folder / "state.safetensors"
        self.identity = json.dumps(identity, sort_keys=True)

    def save(self, optimizer: FlatAdamW, curve: list[tuple[float, ...]], pending: float) -> None:
        tensors = {
            "weights": optimizer.weights,
            "mean": optimizer.mean,
            "square": optimizer.square,
            "curve": torch.tensor(curve, dtype=torch.float64).view(-1, 3),
            "pending": torch.tensor(pending, dtype=torch.float64),
        }
        with whole_file(self.path) as temporary:
            metadata = {"identity": self.identity, "step": str(optimizer.steps)}
            save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, temporary, metadata)

    def load(self, optimizer: FlatAdamW) -> tuple[list[tuple[float, ...]], float]:
        """Continue `optimizer` where the last state stood; the loss curve and its open sum."""
        if not self.path.exists():
            return [], 0.0
        with safe_open(self.path, "pt") as file:
            if file.metadata()["identity"] != self.identity:
                print("a state of other settings was found and is discarded")
                return [], 0.0
            for name in ("weights", "mean", "square"):
                getattr(optimizer, name).copy_(file.get_tensor(name))
            optimizer.steps = int(file.metadata()["step"])
            print(f"continuing from step {optimizer.steps:,}")
            curve = [(int(seen), *rest) for seen, *rest in file.get_tensor("curve").tolist()]
            return curve, file.get_tensor("pending").item()

    def remove(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)


def pretrain(
    job: Pretraining, workers: Workers, corpus: Path, output: Path, state: Path, origin: dict
) -> None:
    """Train `job` on the corpus folder and write the checkpoint directory `output`.

    origin: provenance to store with the weights. With more than one GPU this starts one process for
    each.
    """
    if workers.gpus <= 1:
        train(job, workers, corpus, output, state, origin)
        return
    with tempfile.TemporaryDirectory() as folder:
        description = Path(folder) / "job.json"
        paths = {"corpus": str(corpus), "output": str(output), "state": str(state)}
        content = {"job": asdict(job), "workers": asdict(workers), "origin": origin} | paths
        description.write_text(json.dumps(content))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [
            f"--nproc-per-node={workers.gpus}",
            "-m",
            "overtrain.training.pretrain",
            str(description),
        ]
        library = str(Path(__file__).parents[2])
        environment = os.environ | {"PYTHONPATH": library, "OMP_NUM_THREADS": str(workers.threads)}
        if subprocess.run(command, env=environment).returncode:
            raise PipelineError("pretrain: a training process failed; its message stands above")


def train(
    job: Pretraining, workers: Workers, corpus: Path, output: Path, state_folder: Path, origin: dict
) -> None:
    """The training loop of one process; see `pretrain`."""
    cuda = workers.gpus > 0 and torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu")
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if job.batch_size % world:
        raise PipelineError(f"batch_size {job.batch_size} is not divisible by {world} processes")
    a = job.architecture
    text = Corpus(corpus)
    if text.manifest["vocabulary"] > a.vocabulary:
        raise PipelineError(
            f"{corpus}: {text.manifest['vocabulary']} tokens; model {job.model} has {a.vocabulary}"
        )
    if rank == 0:
        text.verify("train")
    windows = text.windows("train", a.context)
    order = seed_of("data order", job.corpus, job.seed)
    rows = ordered_windows(windows, order, print if rank == 0 else lambda _: None)

    model = Olmo(a).initialise(seed_of("initial weights", job.model, job.seed)).to(device)
    optimizer = FlatAdamW(model, job.learning_rate, job.betas, job.weight_decay, job.clip)
    state = State(state_folder, asdict(job) | {"text": text.manifest["sha256"]})
    curve, pending = state.load(optimizer)
    losses = torch.compile(model.losses) if cuda else model.losses
    precision = torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext()
    drop = Dropout(job.dropout) if job.dropout else None
    own = job.batch_size // world  # windows of each batch that this process takes
    every = max(1, job.steps // CURVE_POINTS)
    saved = time.monotonic()
    total = torch.zeros((), dtype=torch.float64, device=device)
    total += pending if rank == 0 else 0

    bar = tqdm(
        desc=f"{job.model} {job.tokens:,} tokens",
        total=job.steps,
        initial=optimizer.steps,
        mininterval=5,
        disable=rank > 0,
    )
    while optimizer.steps < job.steps:
        step = optimizer.steps
        if drop:
            torch.manual_seed(seed_of("dropout", job.model, job.tokens, job.seed, step, rank))
        batch = torch.from_numpy(rows(step * job.batch_size + rank * own, own)).to(device)
        for part in batch.split(workers.micro_batch):
            with precision:
                # The micro-batch bounds the logits already: no chunks, nothing computed twice.
                each = losses(part[:, :-1], part[:, 1:], drop, chunk=part.numel())
                loss = each.sum() / (own * a.context)
            loss.backward()
            total += loss.detach()
        scale = fraction("cosine", step, job.steps, job.warmup)
        optimizer.step(scale, average if world > 1 else None)
        bar.update()
        if optimizer.steps % every == 0 or optimizer.steps == job.steps:
            if world > 1:
                dist.all_reduce(total)
            mean = (
                total.item()
                / world
                / (every if optimizer.steps % every == 0 else job.steps % every)
            )
            if not math.isfinite(mean):
                raise PipelineError(f"{job.model}: the loss is {mean} at step {optimizer.steps}")
            seen = optimizer.steps * job.batch_size * a.context
            curve.append((seen, mean, scale * job.learning_rate))
            bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
            total.zero_()
        if rank == 0 and time.monotonic() - saved > workers.state_seconds:
            state.save(optimizer, curve, total.item())
            saved = time.monotonic()
    bar.close()
    if rank == 0:
        write_checkpoint(model, corpus, output, curve, origin)
        state.remove()


def average(gradient: Tensor) -> None:
    """Mean over all processes, in place."""
    dist.all_reduce(gradient)
    gradient /= dist.get_world_size()


def write_checkpoint(
    model: Olmo, corpus: Path, output: Path, curve: list[tuple[float, ...]], origin: dict
) -> None:
    """The Hugging Face directory, with muP's table, the loss curve and the provenance."""
    encoder = load_encoder(corpus)
    with whole_folder(output) as folder:
        save_checkpoint(model, folder, encoder.end_of_text)
        encoder.save(folder, model.architecture.context)
        names = ("tokens", "loss", "learning_rate")
        columns = dict(zip(names, zip(*curve, strict=True), strict=True))
        table = pa.table({name: list(values) for name, values in columns.items()})
        pq.write_table(table, folder / "loss.parquet")
        write_json(folder / "provenance.json", origin)


def main() -> None:
    """One process of a distributed job, described by a JSON file (see `pretrain`)."""
    content = json.loads(Path(sys.argv[1]).read_text())
    workers = Workers(**content["workers"])
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.set_num_threads(workers.threads)
    try:
        train(
            Pretraining.from_config(content["job"]),
            workers,
            Path(content["corpus"]),
            Path(content["output"]),
            Path(content["state"]),
            content["origin"],
        )
    except PipelineError as error:
        sys.exit(f"error: {error}")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
