"""Instruction tuning: one run (a learning rate and a seed) of a released model, with TRL.

Paper, section 2 and Table 2: AdamW, a cosine after 20 warm-up steps, batches of 256 conversations,
never packed. Here: the loss on responses only; every batch whole (what is left over an epoch, less
than one batch, is left out); a batch is any 256 examples, and only the micro-batches that it is
accumulated from are of like lengths. (transformers' `group_by_length` makes whole batches of one
length, the longest first.)

Weights and moments are float32, products bfloat16 on GPUs (autocast): a step of learning rate 1e-6
is less than half the distance of neighbouring bfloat16 numbers for every weight above 2.6e-4, so
that weights in bfloat16 would not move. For the same reason what is saved is float32.

A killed run goes on from its last state, and one that is asked to end (SIGTERM: time limit,
preemption) saves one first; on a CPU both end bit-identical to one never stopped. transformers
reads the states with `weights_only`. The finished model stays in the state's folder until its last
evaluation is done (rule evaluate_c4_instruct): Snakemake runs all of a failed group again.

Several GPUs: `torchrun ... -m overtrain.training.instruct tuning.json`, fully sharded (FSDP2).
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import DistributedType, PartialState
from datasets import Dataset, disable_progress_bars, load_from_disk
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    set_seed,
)
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

from overtrain import PipelineError
from overtrain.data.tasks import read_split
from overtrain.data.workers import die_with_parent
from overtrain.model import chat
from overtrain.model.examples import Examples, pad
from overtrain.model.losses import Score, language_modelling
from overtrain.model.released import DIVERGED, Released, load_model
from overtrain.records.measurements import loss_rows, row
from overtrain.records.provenance import seed_of, whole_folder, write_json

SCHEDULERS = {"cosine": "cosine", "constant": "constant_with_warmup"}
IDENTITY = "identity.json"  # of a state's folder: what it is a state of
COMPLETE = "complete.json"  # written last: a state without it is half of one
FINISHED = "finished"  # of a state's folder: the model as it is handed on, and its measurements
SAVING = 280  # seconds that processes asked to end have for their step and their state
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
class Processes:
    """How to run it: examples in a pass, steps between states, processes (GPUs, or of the CPU)."""

    micro_batch: int
    save_steps: int
    threads: int = 1
    count: int = 1
    cuda: bool = False
    batch_tokens: int = 16384  # of an evaluation's pass


@dataclass(frozen=True)
class Folders:
    """What a run is made of, what it leaves, and where it is trained."""

    base: Path
    task: Path
    output: Path
    state: Path


@dataclass(frozen=True)
class Trained:
    """The end of a training: weights by name, on the CPU, or None for a diverged run; losses."""

    tensors: dict[str, Tensor] | None
    losses: list[float]


def finetune_instruct(
    tuning: Tuning, processes: Processes, folders: Folders, identity: dict, origin: dict
) -> list[dict]:
    """Train one run; write the model's directory `folders.output` and return measurements.

    The rows: the loss on responses over the last tenth of the steps, loss and perplexity of the
    test split's responses, and the L2 distance from the base. A run whose loss or gradient is not
    finite stops; it leaves `diverged.json` instead of weights, and its rows are NaN.

    What it leaves stays in `folders.state` too, as hard links, and a run of the same settings and
    data takes it from there.
    """
    check(tuning, processes, folders.base)
    state = folders.state
    of_state = {"tuning": asdict(tuning), "data": origin["data"], "processes": processes.count}
    prepare_state(state, of_state)
    finished = state / FINISHED
    if finished.exists():
        print(f"taken from {finished}, where an earlier attempt left it")
    else:
        with whole_folder(finished) as folder, told_of_full_disk(state):
            there = replace(folders, output=folder / "model")
            rows = tune(tuning, processes, there, identity, origin)
            write_json(folder / "rows.json", rows)
    for path in state.iterdir():
        if path.name not in (FINISHED, IDENTITY):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with whole_folder(folders.output) as folder:
        shutil.copytree(finished / "model", folder, copy_function=link, dirs_exist_ok=True)
    return json.loads((finished / "rows.json").read_text())


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
    run = train if processes.count == 1 else launch
    trained = run(base, tuning, processes, data, folders.state)
    steps = len(trained.losses)
    folder.mkdir()
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


def link(source: str, target: str) -> None:
    """A hard link, which costs no disk; a copy where there are none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def told_of_full_disk(folder: Path) -> Iterator[None]:
    """Any error on a full disk becomes one line: torch's own do not say what was wrong."""
    try:
        yield
    except PipelineError:
        raise
    except (Exception, CheckpointException) as error:  # the latter is none of the former
        full = shutil.disk_usage(folder).free < 2**20
        if not full and os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise PipelineError(
            f"no space left on the disk that holds {folder}; free some, run again"
        ) from error


def gpus_for(asked: int, visible: int) -> int:
    """GPUs to train on; PipelineError where several are asked for and not all are there."""
    if visible < asked and asked > 1:
        raise PipelineError(
            f"resources.finetune_instruct asks for {asked} GPUs, which share the model; {visible} "
            "are visible"
        )
    return min(asked, visible)


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


def prepare_state(state: Path, identity: dict) -> None:
    """An empty folder `state`, or that of an earlier attempt at the same run."""
    path = state / IDENTITY
    known = json.dumps(identity, sort_keys=True)
    if not path.exists() or path.read_text() != known:
        if state.exists():
            print("a state of other settings was found and is discarded")
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        path.write_text(known)


# --- training -------------------------------------------------------------------------------------


class Trainer(SFTTrainer):
    """SFTTrainer with states that are whole or not there, and that tells nobody that it runs."""

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *_, **__) -> None:
        pass

    def _save_checkpoint(self, model: object, trial: object) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            last = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
            (last / COMPLETE).write_text("{}")
            for other in last.parent.glob("checkpoint-*"):
                if other != last:
                    shutil.rmtree(other)


class Watch(TrainerCallback):
    """Ends a training that diverges or is asked to end, and keeps the losses of its steps."""

    def __init__(self, steps: int):
        self.asked = self.diverged = False
        self.every = max(1, steps // 20)

    def on_step_end(
        self, args: SFTConfig, state: TrainerState, control: TrainerControl, **_
    ) -> None:
        if state.global_step == state.max_steps:
            control.should_save = False  # the weights themselves are saved
        elif any_process(self.asked):  # all at the same step
            self.asked = control.should_save = control.should_training_stop = True

    def on_log(
        self, args: SFTConfig, state: TrainerState, control: TrainerControl, logs: dict, **_
    ) -> None:
        if "grad_norm" not in logs:  # the summary at the end
            return
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            self.diverged = control.should_training_stop = True
        if args.should_save and state.global_step % self.every == 0:
            loss, rate = logs["loss"], logs["learning_rate"]
            print(f"step {state.global_step}: loss {loss:.4f}, learning rate {rate:.3g}")


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)


@contextmanager
def on_terminate(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` at SIGTERM instead of dying of it."""
    before = signal.signal(signal.SIGTERM, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def settings(tuning: Tuning, processes: Processes, state: Path) -> SFTConfig:
    """The tuning in TRL's words."""
    together = processes.micro_batch * processes.count
    sharded = {
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "reshard_after_forward": True,
        "cpu_ram_efficient_loading": True,  # the first process alone reads the weights
        "state_dict_type": "SHARDED_STATE_DICT",
        "activation_checkpointing": processes.cuda,
    }
    several = processes.count > 1
    # Gradients are summed over passes as shards in float32; else whole on every GPU, in bfloat16.
    each_pass = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    own = SFTConfig(
        output_dir=str(state),
        per_device_train_batch_size=processes.micro_batch,
        gradient_accumulation_steps=tuning.batch_size // together,
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
        gradient_checkpointing=processes.cuda and not several,
        fsdp=several or None,
        fsdp_config=sharded if several else None,
        accelerator_config=each_pass if several else None,
        seed=tuning.seed_for("instruction seed") % 2**32,
        save_steps=processes.save_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not processes.cuda,
        dataloader_pin_memory=processes.cuda,
    )
    if not several:
        own._n_gpu = min(1, own.n_gpu)  # one GPU, also where more are visible: no DataParallel
    return own


def train(base: Path, tuning: Tuning, processes: Processes, data: Dataset, state: Path) -> Trained:
    """Train in this process (one of `processes.count`), from the last state if there is one."""
    disable_progress_bars()
    disable_progress_bar()
    arguments = settings(tuning, processes, state)
    if processes.count > 1 and not processes.cuda:
        # accelerate shards on GPUs alone; told that these are some, it does the same on a CPU.
        PartialState().__dict__["distributed_type"] = DistributedType.MULTI_GPU
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
    if arguments.bf16 and processes.count > 1:  # accelerate's own: all three in bfloat16
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
        )
    trainer.remove_callback(PrinterCallback)  # prints every step
    watch = Watch(len(data) // tuning.batch_size)
    trainer.add_callback(watch)
    last = last_state(state)
    if last:
        print(f"continuing from {last.name}")
    with on_terminate(lambda: setattr(watch, "asked", True)):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if watch.asked:
        raise PipelineError(
            f"asked to end at step {trainer.state.global_step} of {trainer.state.max_steps}; the "
            "next attempt goes on from there"
        )
    losses = [entry["loss"] for entry in trainer.state.log_history if "grad_norm" in entry]
    if watch.diverged:
        return Trained(None, losses)
    tensors = trainer.accelerator.get_state_dict(trainer.model)
    return Trained({name: t.cpu() for name, t in tensors.items()}, losses)


def last_state(state: Path) -> Path | None:
    """The newest whole state; halves of others are removed."""
    found = {path for path in state.glob("checkpoint-*") if (path / COMPLETE).exists()}
    if not dist.is_initialized() or dist.get_rank() == 0:
        for half in set(state.glob("checkpoint-*")) - found:
            shutil.rmtree(half)
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


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


# --- several processes ----------------------------------------------------------------------------


def launch(base: Path, tuning: Tuning, processes: Processes, data: Dataset, state: Path) -> Trained:
    """Train in processes of their own, started by accelerate; they leave weights in `state`."""
    result = state / "result.json"
    if not result.exists():
        data.save_to_disk(str(state / "examples"))
        each = replace(processes, threads=max(1, processes.threads // processes.count))
        content = {"base": str(base), "tuning": asdict(tuning), "processes": asdict(each)}
        write_json(state / "tuning.json", content)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes.count}", f"--shutdown-timeout={SAVING}"]
        command += ["-m", "overtrain.training.instruct", str(state / "tuning.json")]
        library = str(Path(__file__).parents[2])
        environment = os.environ | {"PYTHONPATH": library, "OMP_NUM_THREADS": str(each.threads)}
        # So that from_pretrained reads the weights in the first process alone.
        environment |= {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
        with (
            subprocess.Popen(command, env=environment, preexec_fn=die_with_parent) as process,
            on_terminate(process.terminate),
        ):
            status = process.wait()
        if status:
            raise PipelineError("a training process failed; its message stands above")
    content = json.loads(result.read_text())
    weights = state / "trained.safetensors"
    return Trained(load_file(weights) if weights.exists() else None, content["losses"])


def main() -> None:
    """One of the processes that `launch` started."""
    die_with_parent()
    path = Path(sys.argv[1])
    content, state = json.loads(path.read_text()), path.parent
    processes = Processes(**content["processes"])
    torch.set_num_threads(processes.threads)
    data = load_from_disk(str(state / "examples"), keep_in_memory=False)
    settings = content["tuning"] | {"betas": tuple(content["tuning"]["betas"])}
    try:
        with told_of_full_disk(state):
            trained = train(Path(content["base"]), Tuning(**settings), processes, data, state)
            if dist.get_rank() == 0:
                leave(trained, state)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    dist.barrier()
    dist.destroy_process_group()


def leave(trained: Trained, state: Path) -> None:
    """What `launch` reads."""
    if trained.tensors is not None:
        own = {name: t.clone() for name, t in trained.tensors.items()}  # tied ones share memory
        save_file(own, state / "trained.safetensors")
    write_json(state / "result.json", {"losses": trained.losses})


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
