"""Instruction tuning: one run (a learning rate and a seed) of a released model, with TRL.

Paper, section 2 and Table 2: AdamW, a cosine after 20 warm-up steps, batches of 256 conversations,
never packed. Here: the loss on responses only; every batch whole (what is left over an epoch, less
than one batch, is left out); a batch is any 256 examples, and only the micro-batches that it is
accumulated from are of like lengths. (transformers' `group_by_length` makes whole batches of one
length, the longest first.)

Weights and moments are float32, products bfloat16 on GPUs (autocast): a step of learning rate 1e-6
is less than half the distance of neighbouring bfloat16 numbers for every weight above 2.6e-4, so
that weights in bfloat16 would not move. For the same reason what is saved is float32.

Several GPUs: `torchrun ... -m overtrain.training.instruct tuning.json`, fully sharded (FSDP2).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, set_seed
from trl import SFTConfig, SFTTrainer

from overtrain import PipelineError
from overtrain.data.tasks import read_split
from overtrain.model import chat
from overtrain.model.examples import Examples, pad
from overtrain.model.losses import Score, language_modelling
from overtrain.model.released import DIVERGED, Released, load_model
from overtrain.records.measurements import loss_rows, row
from overtrain.records.provenance import seed_of, whole_folder, write_json
from overtrain.training.processes import Processes
from overtrain.training.states import prepare_state, told_of_full_disk
from overtrain.training.trainer import (
    Trained,
    WholeStates,
    arguments_for,
    in_processes,
    run,
    set_up,
    take_part,
)

SCHEDULERS = {"cosine": "cosine", "constant": "constant_with_warmup"}
MODULE = "overtrain.training.instruct"  # this one, for processes to run
LAST = 0.1  # of the steps: the training loss is the mean over them


@dataclass(frozen=True)
class Tuning:
    """Everything a run's weights depend on. `lora`: None, or rank, alpha, dropout, modules."""

    model: str
    task: str
    recipe: str
    learning_rate: float
    seed: int
    batch_size: int
    epochs: int
    scheduler: str
    warmup_steps: int
    weight_decay: float
    betas: tuple[float, float]
    clip: float | None
    max_length: int
    precision: str
    template: str
    lora: dict | None = None

    @classmethod
    def from_config(cls, slice_: dict, **names: Any) -> Tuning:
        """From the configuration's slice for one run (see `catalogue.instruct_slice`).

        names: the model, task and recipe, which seed the order of the examples.
        """
        settings = slice_["recipe"] | {"betas": tuple(slice_["recipe"]["betas"])}
        return cls(template=slice_["chat"]["template"], **settings, **names)

    def seed_for(self, what: str) -> int:
        """A draw of its own for each seed; all learning rates of a seed share it."""
        return seed_of(what, self.model, self.task, self.recipe, self.seed)


@dataclass(frozen=True)
class Folders:
    """What a run is made of, what it leaves, and where it is trained."""

    base: Path
    task: Path
    output: Path
    state: Path


def finetune_instruct(
    tuning: Tuning, processes: Processes, folders: Folders, identity: dict, origin: dict
) -> list[dict]:
    """Train one run; write the model's directory `folders.output` and return measurements.

    The rows: the loss on responses over the last tenth of the steps, loss and perplexity of the
    test split's responses, and the L2 distance from the base. A run whose loss or gradient is not
    finite stops; it leaves `diverged.json` instead of weights, and its rows are NaN.

    A run of the same settings and data goes on from what it left in `folders.state`.
    """
    check(tuning, processes, folders.base)
    of_state = {"tuning": asdict(tuning), "data": origin["data"], "processes": processes.count}
    prepare_state(folders.state, of_state)
    with whole_folder(folders.output) as output, told_of_full_disk(folders.state):
        return tune(tuning, processes, replace(folders, output=output), identity, origin)


def tune(
    tuning: Tuning, processes: Processes, folders: Folders, identity: dict, origin: dict
) -> list[dict]:
    """Train one run, from its last state; write its model, return its measurements."""
    base, task, folder = folders.base, folders.task, folders.output
    tokenizer = chat.load_tokenizer(base, tuning.template)
    ids, labels = tokens_of(task, "train", tokenizer, tuning.max_length)
    order = batches([len(own) for own in ids], tuning)
    print(f"{len(ids)} examples, {len(order)} steps, {processes.count} x {processes.micro_batch}")
    if len(order) <= tuning.warmup_steps:
        print(f"warning: {len(order)} steps in all: warm-up over {tuning.warmup_steps} never ends")
    examples = [int(i) for i in order.ravel()]
    data = Dataset.from_dict(
        {"input_ids": [ids[i] for i in examples], "labels": [labels[i] for i in examples]}
    )
    if Trained.is_in(folders.state):
        print("trained to the end by an earlier attempt")
    elif processes.count == 1:
        train(base, tuning, processes, data, folders.state).leave(folders.state)
    else:
        own = {"base": str(base), "tuning": asdict(tuning)}
        in_processes(MODULE, own, processes, data, folders.state)
    trained = Trained.left(folders.state)
    steps = len(trained.losses)
    write_json(folder / "provenance.json", origin)
    if trained.tensors is None:
        print(f"diverged at step {steps} of {len(order)}")
        write_json(folder / DIVERGED, {"step": steps, "steps": len(order)})
        return measurements(tuning, identity, trained, math.nan, len(order), None)
    model = assemble(base, tuning, trained.tensors)
    distance = distance_from(base, model)
    model.save_pretrained(folder, max_shard_size="1TB")
    tokenizer.save_pretrained(folder)
    held_out = tokens_of(task, "test", tokenizer, tuning.max_length)
    padded = padded_examples(*held_out, tokenizer.pad_token_id)
    scored = Released(model.to("cuda" if processes.cuda else "cpu"))
    score = language_modelling(scored, padded, scored.batch_tokens(processes.batch_tokens))
    return measurements(tuning, identity, trained, distance, len(order), score)


def check(tuning: Tuning, processes: Processes, base: Path) -> None:
    """PipelineError where processes cannot make the batch, or the model not hold max_length."""
    together = processes.micro_batch * processes.count
    if tuning.batch_size % together:
        raise PipelineError(
            f"batch_size {tuning.batch_size} is not a multiple of micro_batch "
            f"{processes.micro_batch} x {processes.count} processes (resources.finetune_instruct)"
        )
    context = json.loads((base / "config.json").read_text())["max_position_embeddings"]
    if tuning.max_length > context:
        raise PipelineError(
            f"{base}: its context is {context}; max_length of recipe {tuning.recipe} is "
            f"{tuning.max_length}"
        )


def tokens_of(
    task: Path, split: str, tokenizer: object, max_length: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Tokens and targets of a split's conversations."""
    rows = read_split(task, split, "chat")
    ids, labels, counts = chat.encode([r["messages"] for r in rows], tokenizer, max_length)
    print(
        f"{split}: {len(rows)} conversations; {counts['truncated']} cut to {max_length} tokens, "
        f"{counts['dropped']} of them left out, as nothing of a response remained"
    )
    return ids, labels


def batches(lengths: list[int], tuning: Tuning) -> np.ndarray:
    """Example numbers (steps, batch_size): whole batches of a permutation for each epoch.

    Sorted by length within a batch, longest first: micro-batches are slices of it, so they are of
    like lengths, and a memory that does not suffice shows in the first pass of a batch.
    """
    size, per_epoch = tuning.batch_size, len(lengths) // tuning.batch_size
    if not per_epoch:
        raise PipelineError(f"{len(lengths)} examples to train on are less than one batch, {size}")
    draw = np.random.default_rng(tuning.seed_for("instruction order"))
    chosen = [draw.permutation(len(lengths))[: per_epoch * size] for _ in range(tuning.epochs)]
    rows = np.concatenate(chosen).reshape(-1, size)
    longest_first = np.argsort(-np.asarray(lengths)[rows], axis=1, kind="stable")
    return np.take_along_axis(rows, longest_first, axis=1)


# --- training -------------------------------------------------------------------------------------


class Trainer(WholeStates, SFTTrainer):
    """SFTTrainer with states that are whole or not there, and that tells nobody that it runs."""

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *_, **__) -> None:
        pass


def settings(tuning: Tuning, processes: Processes, state: Path) -> SFTConfig:
    """The tuning in TRL's words."""
    return SFTConfig(
        **arguments_for(processes, tuning.batch_size, state),
        num_train_epochs=1,  # the data set is all epochs, in their order
        train_sampling_strategy="sequential",
        learning_rate=tuning.learning_rate,
        lr_scheduler_type=SCHEDULERS[tuning.scheduler],
        warmup_steps=tuning.warmup_steps,
        optim="adamw_torch",
        adam_beta1=tuning.betas[0],
        adam_beta2=tuning.betas[1],
        weight_decay=tuning.weight_decay,
        max_grad_norm=tuning.clip or 0.0,
        max_length=tuning.max_length,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        bf16=processes.cuda and tuning.precision == "bf16",
        seed=tuning.seed_for("instruction seed") % 2**32,
    )


def train(base: Path, tuning: Tuning, processes: Processes, data: Dataset, state: Path) -> Trained:
    """Train in this process (one of `processes.count`), from the last state if there is one."""
    arguments = settings(tuning, processes, state)
    set_up(arguments, processes)
    set_seed(arguments.seed)
    model, tokenizer = load_model(base), chat.load_tokenizer(base, tuning.template)
    own = {"train_dataset": data, "processing_class": tokenizer, "peft_config": adapter(tuning)}
    try:
        trainer = Trainer(model=model, args=arguments, **own)
    except ValueError as error:
        if tuning.lora is None:
            raise
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(f"instruction_recipes.{tuning.recipe}.lora: {reason}") from error
    return run(trainer, processes, len(data) // tuning.batch_size, state)


def adapter(tuning: Tuning):
    """peft's configuration of the recipe's LoRA, or None."""
    if tuning.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=tuning.lora["rank"],
        lora_alpha=tuning.lora["alpha"],
        lora_dropout=tuning.lora["dropout"],
        target_modules=tuning.lora["modules"],
        task_type="CAUSAL_LM",
    )


def main() -> None:
    """One of the processes that train together."""

    def train_own(content: dict, processes: Processes, data: Dataset, state: Path) -> Trained:
        settings = content["tuning"] | {"betas": tuple(content["tuning"]["betas"])}
        return train(Path(content["base"]), Tuning(**settings), processes, data, state)

    take_part(train_own)


# --- what a run leaves ----------------------------------------------------------------------------


def assemble(base: Path, tuning: Tuning, tensors: dict[str, Tensor]) -> PreTrainedModel:
    """The tuned model, on the CPU, with an adapter merged into its weights."""
    model = load_model(base)
    if tuning.lora is None:
        model.load_state_dict(tensors)
        return model
    from peft import get_peft_model

    wrapped = get_peft_model(model, adapter(tuning))
    wrapped.load_state_dict(tensors)
    return wrapped.merge_and_unload()


@torch.no_grad()
def distance_from(base: Path, model: PreTrainedModel) -> float:
    """Euclidean norm of the change of all weights."""
    before = dict(load_model(base).named_parameters())
    squares = [(p - before[name]).double().square().sum() for name, p in model.named_parameters()]
    return float(torch.stack(squares).sum().sqrt())


def padded_examples(ids: list[np.ndarray], labels: list[np.ndarray], padding: int) -> Examples:
    """Inputs, and the tokens that follow them where they are a response's."""
    padded = pad(ids, [1] * len(ids), padding)
    targets = pad(labels, [1] * len(ids), padding).targets
    return Examples(padded.inputs, targets, padded.lengths)


def measurements(
    tuning: Tuning,
    identity: dict,
    trained: Trained,
    distance: float,
    steps: int,
    score: Score | None,
) -> list[dict]:
    """Rows of one run; `score`: None for a diverged one."""
    run = {"learning_rate": tuning.learning_rate, "seed": tuning.seed}
    own = identity | run | {"selection": "last"}
    training = own | {"evaluation": "training", "split": "train"}
    held_out = own | {"evaluation": "id", "split": "test"}
    last = max(1, round(LAST * steps))
    loss = math.nan if score is None else float(np.mean(trained.losses[-last:]))
    rows = [row(training, "loss", loss, n=last), row(training, "l2_distance", distance)]
    if score is None:
        return rows + loss_rows(held_out, math.nan, math.nan, 0)
    return rows + score.rows(held_out, 0)


if __name__ == "__main__":
    main()
