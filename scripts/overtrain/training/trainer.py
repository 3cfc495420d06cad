"""transformers' Trainer for any tuning: on one process or sharded over several, to its end.

A killed run goes on from its last state, and one that is asked to end (SIGTERM: time limit,
preemption) saves one first; on a CPU both end bit-identical to one never stopped. transformers
reads the states with `weights_only`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from accelerate import DistributedType, PartialState
from datasets import Dataset, disable_progress_bars, load_from_disk
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils.logging import disable_progress_bar

from overtrain.records.provenance import whole_file, write_json
from overtrain.training.processes import Processes, Saving, launch, own_part, saving_states
from overtrain.training.states import complete, last_state, remove_states, told_of_full_disk

EXAMPLES, WEIGHTS, LOSSES = "examples", "trained.safetensors", "losses.json"  # of a state's folder
SNAPSHOTS = "snapshots"  # the same: weights by the step after which they were kept


@dataclass(frozen=True)
class Trained:
    """The end of a training: weights by name, on the CPU, or None for a diverged run; losses."""

    tensors: dict[str, Tensor] | None
    losses: list[float]

    def leave(self, state: Path) -> None:
        """Keep it in `state`, from which no step is done again."""
        if self.tensors is not None:
            own = {name: t.clone() for name, t in self.tensors.items()}  # tied ones share memory
            save_file(own, state / WEIGHTS)
        write_json(state / LOSSES, self.losses)
        remove_states(state)

    @staticmethod
    def is_in(state: Path) -> bool:
        return (state / LOSSES).exists()

    @classmethod
    def left(cls, state: Path) -> Trained:
        """What a training that came to its end left in `state`."""
        losses = json.loads((state / LOSSES).read_text())
        return cls(load_file(state / WEIGHTS) if (state / WEIGHTS).exists() else None, losses)


# From what to train (JSON), data and state.
Train = Callable[[dict, Processes, Dataset, Path], Trained]


def trained_to_the_end(
    module: str, train: Train, run: dict, processes: Processes, data: Dataset, state: Path
) -> Trained:
    """The end of a training: that of an earlier attempt, or of `train` here or in processes.

    module: that of `train`, which processes run to `take_part`.
    """
    if Trained.is_in(state):
        print("trained to the end by an earlier attempt")
    elif processes.count == 1:
        train(run, processes, data, state).leave(state)
    else:
        in_processes(module, run, processes, data, state)
    return Trained.left(state)


def in_processes(module: str, run: dict, processes: Processes, data: Dataset, state: Path) -> None:
    """Train in processes of their own, which leave the end in `state`.

    module: each runs it, to `take_part`; run: what to train, for json.
    """
    data.save_to_disk(str(state / EXAMPLES))
    plan = run | {"processes": asdict(processes), "state": str(state)}
    # So that from_pretrained reads the weights in the first process alone.
    sharded = {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    launch(module, plan, processes.count, processes.threads, **sharded)


def take_part(train: Train) -> None:
    """Be one of the processes."""
    with own_part() as run:
        processes, state = Processes(**run.pop("processes")), Path(run.pop("state"))
        data = load_from_disk(str(state / EXAMPLES), keep_in_memory=False)
        with told_of_full_disk(state):
            trained = train(run, processes, data, state)
            if dist.get_rank() == 0:
                trained.leave(state)


class WholeStates(transformers.Trainer):
    """A Trainer, or with it a Trainer's subclass, with states that are whole or not there."""

    def _save_checkpoint(self, model: object, trial: object) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            complete(Path(self.args.output_dir, f"checkpoint-{self.state.global_step}"))


class Watch(TrainerCallback):
    """Ends a training that diverges or is asked to end, says when to save, and tells its losses."""

    def __init__(self, steps: int, saving: Saving):
        self.saving, self.diverged = saving, False
        self.every = max(1, steps // 20)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_
    ) -> None:
        # After the last step the weights themselves are saved.
        control.should_save = state.global_step < state.max_steps and self.saving.due()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_
    ) -> None:
        self.saving.saved(state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict,
        **_,
    ) -> None:
        if "grad_norm" not in logs:  # the summary at the end
            return
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            self.diverged = control.should_training_stop = True
        if args.should_save and state.global_step % self.every == 0:
            loss, rate = logs["loss"], logs["learning_rate"]
            print(f"step {state.global_step}: loss {loss:.4f}, learning rate {rate:.3g}")


class Snapshots(TrainerCallback):
    """Keeps the weights after some steps, which are measured, too.

    They lie in the state, so that a killed run has those that it came to.
    """

    def __init__(self, trainer: WholeStates, steps: list[int], state: Path):
        self.trainer, self.steps, self.folder = trainer, steps, state / SNAPSHOTS

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_
    ) -> None:
        path = self.folder / f"{state.global_step}.safetensors"
        if state.global_step not in self.steps or path.exists():
            return
        tensors = self.trainer.accelerator.get_state_dict(self.trainer.model)  # all take part
        if args.should_save:
            own = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
            with whole_file(path) as temporary:
                save_file(own, temporary)


def arguments_for(processes: Processes, batch_size: int, state: Path) -> dict[str, Any]:
    """The arguments of a training that its processes and its states ask for."""
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
    return {
        "output_dir": str(state),
        "per_device_train_batch_size": processes.micro_batch,
        "gradient_accumulation_steps": batch_size // (processes.micro_batch * processes.count),
        "gradient_checkpointing": processes.cuda and not several,
        "fsdp": several or None,
        "fsdp_config": sharded if several else None,
        "accelerator_config": each_pass if several else None,
        "save_strategy": "no",  # Watch says when
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not processes.cuda,
        "dataloader_pin_memory": processes.cuda,
    }


def set_up(arguments: TrainingArguments, processes: Processes) -> None:
    """What must be so before there is a Trainer, and is no argument of one."""
    disable_progress_bars()
    disable_progress_bar()
    if processes.count == 1:  # one GPU, also where more are visible: no DataParallel
        arguments._n_gpu = min(1, arguments.n_gpu)
    elif not processes.cuda:
        # accelerate shards on GPUs alone; told that these are some, it does the same on a CPU.
        PartialState().__dict__["distributed_type"] = DistributedType.MULTI_GPU


def run(
    trainer: WholeStates,
    processes: Processes,
    steps: int,
    state: Path,
    snapshots: list[int] | None = None,
) -> Trained:
    """Train, from the last state if there is one.

    snapshots: steps after which the weights are kept in `state` (SNAPSHOTS), too.
    """
    if trainer.args.bf16 and processes.count > 1:  # accelerate's own: all three in bfloat16
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
        )
    trainer.remove_callback(PrinterCallback)  # prints every step
    last = last_state(state)
    if last:
        print(f"continuing from {last.name}")
    with saving_states(processes.state_minutes) as saving:
        watch = Watch(steps, saving)
        trainer.add_callback(watch)
        if snapshots:
            trainer.add_callback(Snapshots(trainer, snapshots, state))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "grad_norm" in entry]
    if watch.diverged:
        return Trained(None, losses)
    tensors = trainer.accelerator.get_state_dict(trainer.model)
    return Trained({name: t.cpu() for name, t in tensors.items()}, losses)
