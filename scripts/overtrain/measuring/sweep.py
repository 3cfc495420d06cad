"""What the rules that modify a checkpoint share: its identity, device, memory and inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from tqdm import tqdm

from overtrain.configuration import catalogue_of
from overtrain.data.corpora import MANIFEST
from overtrain.data.tokenizer import TextEncoder, load_encoder
from overtrain.measuring.directions import loss_along
from overtrain.model.allocator import keep_freed_memory
from overtrain.model.losses import Score, held_out_text
from overtrain.model.memory import in_use
from overtrain.model.olmo import LOGITS, WEIGHTS, read_architecture
from overtrain.model.snapshots import load_stacks
from overtrain.records import job, measurements
from overtrain.records.provenance import sha256


class Sweep:
    """A rule's job on one (model, checkpoint) and, for fine-tuning, one (task, recipe)."""

    def __init__(self, snakemake: object):
        self.snakemake = snakemake
        w, config = snakemake.wildcards, snakemake.config
        torch.set_num_threads(snakemake.threads)
        keep_freed_memory()
        self.checkpoint = Path(snakemake.input.checkpoint)
        catalogue = catalogue_of(config)
        self.identity = catalogue.identity(w.model, w.checkpoint)
        if task := w.get("task"):
            self.identity |= {"task": task, "recipe": w.recipe}
            self.task = Path("results/tasks", task)
            self.task_settings = config["tasks"][task]
        self.batch_tokens = config["evaluations"]["batch_tokens"]
        gpu = snakemake.resources.get("gpu", 0)
        self.device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
        # TF32 in products: bfloat16 would drown the small changes that small learning rates make.
        torch.set_float32_matmul_precision("high")
        if gpu and self.device.type == "cpu":
            print("warning: the rule asks for a GPU; none is visible and the CPU is used")

    @cached_property
    def context(self) -> int:
        return read_architecture(self.checkpoint).context

    @cached_property
    def encoder(self) -> TextEncoder:
        return load_encoder(self.checkpoint)

    @property
    def memory(self) -> int:
        """Bytes that a stack may come to: most of the GPU's, or of what the rule asks for.

        The rest is for what a measurement on small stacks does not show: fragmented memory.
        """
        if self.device.type == "cuda":
            return int(0.85 * torch.cuda.mem_get_info()[0])
        return int(0.8 * self.snakemake.resources.mem_mb * 2**20)

    @property
    def width(self) -> int:
        """Members of a stack in evaluation.

        A pass has `batch_tokens` of the whole stack, or a window of each member where that is more:
        three copies of its logits, and eight activations of the MLP's width.
        """
        a = read_architecture(self.checkpoint)
        window = 8 * a.context * a.mlp_size
        logits = min(LOGITS, self.batch_tokens * a.vocabulary)
        fixed = 3 * logits + 8 * self.batch_tokens * a.mlp_size
        free = self.memory - in_use(self.device) - 4 * fixed
        return max(1, free // (4 * (a.parameter_counts()["total"] + window)))

    def measure(self, evaluation: str, scores: dict[str, Callable[..., Score]]) -> list[dict]:
        """Rows of every snapshot of the sweep and of its base; scores: a function by split."""
        rows = []
        runs = Path(self.snakemake.input.runs)
        with tqdm(desc=evaluation, unit="stack") as bar:
            for snapshots, model in load_stacks(self.checkpoint, runs, self.width, self.device):
                for split, score in scores.items():
                    identity = self.identity | {"evaluation": evaluation, "split": split}
                    result = score(model, batch_tokens=self.batch_tokens)
                    for place, snapshot in enumerate(snapshots):
                        for selection in snapshot.selections:
                            own = identity | snapshot.identity() | {"selection": selection}
                            rows += result.rows(own, place)
                del model  # before the next stack takes its memory
                bar.update()
        return rows

    def measure_under_noise(self, measure: Callable[..., list[dict]]) -> None:
        """Write the rows that `measure` makes of the checkpoint under noise, on held-out text."""
        config = json.loads(self.snakemake.params.config)
        corpus = Path(self.snakemake.input.corpus)
        rows = measure(
            self.checkpoint,
            held_out_text(corpus, config.get("window") or self.context, config["tokens"]),
            config["gammas"],
            config["seeds"],
            batch_tokens=self.batch_tokens,
            identity=self.identity | {"evaluation": "c4", "split": "held_out"},
            device=self.device,
        )
        measurements.write(rows, Path(self.snakemake.output.measurements), self.origin())

    def measure_along(self, direction: dict[str, torch.Tensor], which: dict) -> None:
        """Write the loss on held-out text along a direction; which: the columns that name it."""
        torch.set_float32_matmul_precision("highest")  # near lambda 0, TF32 rounds the change away
        config = json.loads(self.snakemake.params.config)
        rows = loss_along(
            self.checkpoint,
            direction,
            config["lambdas"],
            held_out_text(Path(self.snakemake.input.corpus), self.context, config["tokens"]),
            self.width,
            self.batch_tokens,
            self.identity | which | {"evaluation": "c4", "split": "held_out"},
            self.device,
        )
        measurements.write(rows, Path(self.snakemake.output.measurements), self.origin())

    def origin(self) -> dict:
        """Provenance: the slice of the rule, and the hash of every input that is data."""
        data = {}
        for name, path in self.snakemake.input.items():
            path = Path(path)
            if name in ("checkpoint", "corpus"):
                data[name] = hash_of(path)
            elif path.is_file():
                data[name] = sha256(path)
        cuda = self.device.type == "cuda"
        device = torch.cuda.get_device_name(self.device) if cuda else "cpu"
        return job.origin(self.snakemake, data, device)


def hash_of(folder: Path) -> str:
    """Hash of a corpus or checkpoint: its manifest's, or that of the one file of weights."""
    manifest = folder / MANIFEST
    if manifest.exists():
        return json.loads(manifest.read_text())["sha256"]
    return sha256(folder / WEIGHTS)
