"""Instruction tuning: one run (a learning rate and a seed) of a released model, with TRL.

Paper, section 2 and Table 2: AdamW, a cosine after 20 warm-up steps, batches of 256 conversations,
never packed. Here: the loss on responses only; every batch whole (what is left over an epoch, less
than one batch, is left out); a batch is any 256 examples, and only the micro-batches that it is
accumulated from are of like lengths. (transformers' `group_by_length` makes whole batches of one
length, the longest first.)

Several GPUs: `torchrun ... -m overtrain.training.instruct tuning.json`, fully sharded (FSDP2).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, set_seed
from trl import SFTConfig

from overtrain import PipelineError
from overtrain.data.tasks import read_split
from overtrain.model import chat
from overtrain.model.losses import language_modelling
from overtrain.model.released import ALL_STEPS, STEPS, Released, load_model
from overtrain.records.provenance import whole_folder, write_json
from overtrain.training.processes import Processes
from overtrain.training.states import prepare_state, told_of_full_disk
from overtrain.training.trainer import (
    SNAPSHOTS,
    Trained,
    run,
    set_up,
    take_part,
    trained_to_the_end,
)
from overtrain.training.tuning import (
    AnyTuning,
    Trainer,
    announce,
    arguments,
    batches,
    check,
    distance,
    leave_marker,
    measurements,
    save,
)

MODULE = "overtrain.training.instruct"  # this one, for processes to run


@dataclass(frozen=True)
class Tuning(AnyTuning):
    """Everything a run's weights depend on. `lora`: None, or rank, alpha, dropout, modules.

    snapshots: shares of the steps after which the weights are kept, too.
    """

    lora: dict | None = None
    snapshots: list[float] | None = None

    def kept_after(self, steps: int) -> list[int]:
        """The steps, of so many in all, after which the weights are kept; never the last."""
        shares = self.snapshots or []
        return sorted({max(1, round(share * steps)) for share in shares} - {steps})

    @classmethod
    def from_config(cls, slice_: dict, **names: Any) -> Tuning:
        """From the configuration's slice for one run (see `catalogue.instruct_slice`).

        names: the model, task and recipe, which seed the order of the examples.
        """
        settings = slice_["recipe"] | {"betas": tuple(slice_["recipe"]["betas"])}
        return cls(template=slice_["chat"]["template"], **settings, **names)


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
    check(tuning, processes, folders.base, "finetune_instruct")
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
    announce(len(ids), len(order), tuning, processes)
    examples = [int(i) for i in order.ravel()]
    data = Dataset.from_dict(
        {"input_ids": [ids[i] for i in examples], "labels": [labels[i] for i in examples]}
    )
    own = {"base": str(base), "tuning": asdict(tuning)}
    trained = trained_to_the_end(MODULE, train_own, own, processes, data, folders.state)
    write_json(folder / "provenance.json", origin)
    if trained.tensors is None:
        leave_marker(folder, len(trained.losses), len(order))
        far = {"l2_distance": math.nan}
        return measurements(tuning, identity, trained, far, len(order), None)
    model = assemble(base, tuning, trained.tensors)
    far = {"l2_distance": distance(load_model(base), model)}
    save(model, tokenizer, folder)
    for path in (folders.state / SNAPSHOTS).glob("*.safetensors"):
        kept = folder / STEPS / path.stem
        save(assemble(base, tuning, load_file(path)), tokenizer, kept)
    if tuning.snapshots:
        write_json(folder / ALL_STEPS, len(order))
    held_out = tokens_of(task, "test", tokenizer, tuning.max_length)
    padded = chat.padded(*held_out, tokenizer.pad_token_id)
    scored = Released(model.to("cuda" if processes.cuda else "cpu"))
    score = language_modelling(scored, padded, scored.batch_tokens(processes.batch_tokens))
    return measurements(tuning, identity, trained, far, len(order), score)


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


# --- training -------------------------------------------------------------------------------------


def settings(tuning: Tuning, processes: Processes, state: Path) -> SFTConfig:
    """The tuning in TRL's words."""
    return SFTConfig(
        **arguments(tuning, processes, state),
        max_length=tuning.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},
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
    steps = len(data) // tuning.batch_size
    return run(trainer, processes, steps, state, tuning.kept_after(steps))


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


def train_own(own: dict, processes: Processes, data: Dataset, state: Path) -> Trained:
    """`train`, of what a process is told in JSON."""
    settings = own["tuning"] | {"betas": tuple(own["tuning"]["betas"])}
    return train(Path(own["base"]), Tuning(**settings), processes, data, state)


def main() -> None:
    """One of the processes that train together."""
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


if __name__ == "__main__":
    main()
