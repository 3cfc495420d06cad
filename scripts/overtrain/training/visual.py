"""Visual tuning of a released model, in LLaVA's two stages, with TRL.

Paper, section 2 and Table 2. First (`align_projector`) the projector alone is trained, on captions;
then (`finetune_vision`) the language model with it, on instructions. The vision encoder never
moves. A batch is conversations that all have an image, or none, as in LLaVA's own code; what is
left over an epoch of either kind, less than one batch, is left out. A batch of text alone does not
touch the projector: no gradient, no step. The loss is on responses only.

Several GPUs: `torchrun ... -m overtrain.training.visual tuning.json`, fully sharded (FSDP2).
"""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from datasets import Dataset
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration, set_seed
from transformers.utils import SAFE_WEIGHTS_NAME
from trl import SFTConfig

from overtrain import PipelineError
from overtrain.data.images import Images
from overtrain.model import chat, vision
from overtrain.model.released import load_model, load_tokenizer
from overtrain.records.provenance import sha256, whole_folder, write_json
from overtrain.training import trainer, tuning
from overtrain.training.processes import Processes
from overtrain.training.states import prepare_state, told_of_full_disk
from overtrain.training.trainer import Trained
from overtrain.training.visual_examples import (
    Decoded,
    Examples,
    Tuning,
    processor_of,
    read_examples,
    response_loss,
)

MODULE = "overtrain.training.visual"  # this one, for processes to run


@dataclass(frozen=True)
class Folders:
    """What a run is made of, what it leaves, and where it is trained."""

    base: Path
    encoder: Path
    projector: Path | None  # that a run starts from; None in alignment
    task: Path
    images: Path
    output: Path
    state: Path

    def load(self, own: Tuning) -> LlavaForConditionalGeneration:
        """The model before its training."""
        seed = own.seed_for("projector")
        return vision.load_llava(self.base, self.encoder, own.layer, self.projector, seed)


def align_projector(
    own: Tuning, processes: Processes, folders: Folders, identity: dict, origin: dict
) -> list[dict]:
    """Train a projector; write its directory `folders.output` and return measurements.

    The rows: the loss on captions over the last tenth of the steps, loss and perplexity of the test
    split's captions, and the L2 distance from the projector's draw. PipelineError if it diverges:
    no run can start from it.
    """
    return tuned(own, processes, folders, identity, origin, leave_projector)


def finetune_vision(
    own: Tuning, processes: Processes, folders: Folders, identity: dict, origin: dict
) -> list[dict]:
    """Train one run; write the directory `folders.output` and return measurements.

    The directory: what instruction tuning leaves, a text model with its tokenizer, and the
    projector; or, of a run whose loss or gradient is not finite, `diverged.json` instead of both.
    The rows: as instruction tuning's, and the L2 distance of the projector.
    """
    return tuned(own, processes, folders, identity, origin, leave_run)


# What is left of weights in a folder: the distances from what they were, and the model to score.
Leave = Callable[[Tuning, Folders, dict], tuple[dict[str, float], LlavaForConditionalGeneration]]


def tuned(
    own: Tuning,
    processes: Processes,
    folders: Folders,
    identity: dict,
    origin: dict,
    leave: Leave,
) -> list[dict]:
    """Train, from the last state of the same settings and data; leave the result."""
    tuning.check(own, processes, folders.base, own.rule)
    of_state = {"tuning": asdict(own), "data": origin["data"], "processes": processes.count}
    prepare_state(folders.state, of_state)
    with whole_folder(folders.output) as output, told_of_full_disk(folders.state):
        folders = replace(folders, output=output)
        processor = processor_of(own, folders.base, folders.encoder)
        examples = read_examples(folders.task, "train", processor, own)
        order = tuning.batches(examples.lengths, own, examples.with_image)
        say(examples, order, own, processes)
        data = examples.data([int(i) for i in order.ravel()])
        made_of = {key: path and str(path) for key, path in asdict(folders).items()}
        plan = {"folders": made_of, "tuning": asdict(own)}
        trained = trainer.trained_to_the_end(
            MODULE, train_own, plan, processes, data, folders.state
        )
        write_json(output / "provenance.json", origin)
        steps = len(order)
        if trained.tensors is None:
            if own.aligns:
                raise PipelineError(
                    f"the projector diverged at step {len(trained.losses)} of {steps}: lower "
                    f"visual_recipes.{own.recipe}.alignment.learning_rate"
                )
            tuning.leave_marker(output, len(trained.losses), steps)
            far = {"l2_distance": math.nan, "projector_l2_distance": math.nan}
            return tuning.measurements(own, identity, trained, far, steps, None)
        far, model = leave(own, folders, trained.tensors)
        held_out = read_examples(folders.task, "test", processor, own)
        score = response_loss(model, processor, held_out, Images(folders.images), processes)
        return tuning.measurements(own, identity, trained, far, steps, score)


def say(examples: Examples, order: np.ndarray, own: Tuning, processes: Processes) -> None:
    """What is going to be trained, and what of it is left out."""
    tuning.announce(len(examples.lengths), len(order), own, processes)
    seen = len(order) * own.batch_size // own.epochs
    print(
        f"{sum(examples.with_image)} with an image; of each epoch {len(examples.lengths) - seen} "
        "are left out, less than a batch of one kind"
    )


# --- training -------------------------------------------------------------------------------------


class Trainer(tuning.Trainer):
    """The encoder stays as it is in use, and a state has the weights that are trained."""

    def compute_loss(self, model: Any, inputs: dict, *arguments: Any, **more: Any) -> Any:
        """transformers' own, of all logits.

        TRL's reads the head's weights outside of the head's forward. Over several processes each
        would then step its shard of LLaVA's head by its own examples' gradient, not by the mean.
        """
        self.accelerator.unwrap_model(model).model.vision_tower.eval()  # Trainer calls train()
        inputs = {**inputs, "use_cache": False}
        return transformers.Trainer.compute_loss(self, model, inputs, *arguments, **more)

    def _save(self, output_dir: str, state_dict: dict | None = None) -> None:
        # save_pretrained writes the names that LLaVA's weights once had; a state needs those that
        # the model has. Of several processes, accelerate writes the state.
        own = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_file(own, Path(output_dir, SAFE_WEIGHTS_NAME))

    def _issue_warnings_after_load(self, found: Any) -> None:
        if found.unexpected_keys:
            raise ValueError(f"a state has weights that the model has not: {found.unexpected_keys}")


def settings(own: Tuning, processes: Processes, state: Path) -> SFTConfig:
    """The tuning in TRL's words."""
    # On a GPU, other processes decode the images: in this one, those of a batch would take seconds,
    # in which the GPU waits. On a CPU, they would take the cores that train.
    workers = processes.threads // processes.count if processes.cuda else 0
    return SFTConfig(
        **tuning.arguments(own, processes, state),
        max_length=None,  # cuts no image tokens; what is longer is left out already
        assistant_only_loss=True,
        dataloader_num_workers=workers,
    )


def train(
    own: Tuning, folders: Folders, processes: Processes, data: Dataset, state: Path
) -> Trained:
    """Train in this process (one of `processes.count`), from the last state if there is one."""
    arguments = settings(own, processes, state)
    trainer.set_up(arguments, processes)
    set_seed(arguments.seed)
    model = folders.load(own)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(own.trained))
    images = Images(folders.images)
    print(f"{len(images)} images")  # reads their list, which the processes that decode share
    gc.freeze()  # a collection in one of those would copy all that it looks at
    one = Trainer(
        model=model,
        args=arguments,
        train_dataset=data.with_transform(Decoded(images)),
        processing_class=processor_of(own, folders.base, folders.encoder),
    )
    if processes.count > 1:
        # Gathered one by one: the language model's layers. The encoder is, all in one piece, with
        # what else there is: 0.6 GB, and no float32 between its layers, whose weights are bfloat16.
        layer = type(model.model.language_model.layers[0]).__name__
        one.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = [layer]
    try:
        found = trainer.run(one, processes, len(data) // own.batch_size, state)
    except PipelineError as error:  # one of a process that decodes comes with its traceback
        line = str(error).strip().splitlines()[-1]
        name = f"{PipelineError.__module__}.{PipelineError.__name__}: "
        raise PipelineError(line.removeprefix(name)) from error
    if found.tensors is None:
        return found
    kept = {name: t for name, t in found.tensors.items() if name.startswith(own.trained)}
    return Trained(kept, found.losses)


def train_own(plan: dict, processes: Processes, data: Dataset, state: Path) -> Trained:
    """`train`, of what a process is told in JSON."""
    folders: dict[str, Any] = {key: path and Path(path) for key, path in plan["folders"].items()}
    own = Tuning.of_settings(plan["tuning"])
    return train(own, Folders(**folders), processes, data, state)


def main() -> None:
    """One of the processes that train together."""
    trainer.take_part(train_own)


# --- what a run leaves ----------------------------------------------------------------------------


def leave_projector(own: Tuning, folders: Folders, tensors: dict) -> tuple[dict, Any]:
    """Write the projector, with its hash."""
    model = folders.load(own)
    far = {"projector_l2_distance": keep_projector(model, tensors, folders.output)}
    digest = sha256(folders.output / vision.PROJECTOR)
    write_json(folders.output / "manifest.json", {"sha256": digest})
    return far, model


def leave_run(own: Tuning, folders: Folders, tensors: dict) -> tuple[dict, Any]:
    """Write the text model as a checkpoint directory, and the projector beside it."""
    text = load_model(folders.base)
    vision.load_text(text, tensors)
    far = {"l2_distance": tuning.distance(load_model(folders.base), text)}
    tuning.save(text, chat.load_tokenizer(folders.base, own.text_template), folders.output)
    model = vision.around(
        text, load_tokenizer(folders.base), folders.encoder, own.layer, folders.projector
    )
    far["projector_l2_distance"] = keep_projector(model, tensors, folders.output)
    return far, model


def keep_projector(model: LlavaForConditionalGeneration, tensors: dict, folder: Path) -> float:
    """Give the model its trained projector, write it; the L2 distance from the one it had."""
    projector, found = model.model.multi_modal_projector, vision.projector_weights(tensors)
    before = copy.deepcopy(projector)
    projector.load_state_dict(found)
    vision.save_projector(found, folder)
    return tuning.distance(before, projector)


if __name__ == "__main__":
    main()
