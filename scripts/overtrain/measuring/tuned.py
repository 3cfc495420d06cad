"""What the rules share that measure a released checkpoint, or a run tuned from it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch

from overtrain.configuration import catalogue_of
from overtrain.model.allocator import keep_freed_memory
from overtrain.model.examples import Examples
from overtrain.model.losses import language_modelling
from overtrain.model.released import load_released
from overtrain.records import job
from overtrain.records.measurements import loss_rows
from overtrain.records.provenance import sha256

DIVERGED = "diverged.json"  # in the folder of a run whose training diverged, instead of weights


class Measured:
    """The model of a rule's job, what it is called in measurements, and the device for it."""

    def __init__(self, snakemake: object):
        self.snakemake = snakemake
        w = snakemake.wildcards
        torch.set_num_threads(snakemake.threads)
        torch.set_float32_matmul_precision("high")  # as in the evaluation of sweeps
        keep_freed_memory()
        self.model = Path(snakemake.input.model)
        self.catalogue = catalogue_of(snakemake.config)
        self.base = self.catalogue.identity(w.model, w.checkpoint) | {"selection": "base"}
        self.run = w.get("run")
        self.identity = self.base
        if self.run:
            own = {"task": w.task, "recipe": w.recipe, "selection": "last"}
            self.identity = self.base | own | self.catalogue.runs(w.recipe)[self.run]
        self.gpus = snakemake.resources.get("gpu", 0)
        self.device = "cuda" if self.gpus and torch.cuda.is_available() else "cpu"
        if self.gpus and self.device == "cpu":
            print("warning: the rule asks for a GPU; none is visible and the CPU is used")

    def origin(self, data: dict[str, str]) -> dict:
        """Provenance, with the hashes of the model and of `data`."""
        if self.run:
            of_model = sha256(self.model / "provenance.json")
        else:
            of_model = json.loads((self.model / "manifest.json").read_text())["sha256"]
        device = torch.cuda.get_device_name() if self.device == "cuda" else "cpu"
        return job.origin(self.snakemake, {"model": of_model} | data, device)


def state_of(wildcards: object) -> Path:
    """Where a run is trained; its finished model stays there until `finish`."""
    w = wildcards
    return Path("results/state/sft", w.model, w.checkpoint, w.task, w.recipe, w.run)


def finish(wildcards: object) -> None:
    """Remove the state of a run whose chain of evaluations is done."""
    shutil.rmtree(state_of(wildcards), ignore_errors=True)


def diverged(model: Path) -> bool:
    return (model / DIVERGED).exists()


def held_out_rows(
    model: Path, text: Examples, batch_tokens: int, identity: dict, device: str
) -> list[dict]:
    """Loss and perplexity of a model's directory on held-out text; NaN of a run that diverged."""
    identity = identity | {"evaluation": "c4", "split": "held_out"}
    if diverged(model):
        return loss_rows(identity, math.nan, math.nan, len(text))
    released = load_released(model, text)
    released.model.to(device)
    score = language_modelling(released, text, released.batch_tokens(batch_tokens))
    return score.rows(identity, 0)
