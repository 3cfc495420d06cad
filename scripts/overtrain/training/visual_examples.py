"""A visual tuning's settings, and the conversations as it reads them: which, batches, their loss.

A conversation that is longer than max_length is left out, not cut as in instruction tuning: a cut
could take image tokens, or the answer. Images are decoded when a batch is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from overtrain import PipelineError
from overtrain.data.conversations import exchange
from overtrain.data.images import Images
from overtrain.data.tasks import read_split
from overtrain.model import chat, vision
from overtrain.model.architecture import IGNORE
from overtrain.model.losses import Score, mean_loss
from overtrain.model.losses import batches as of_like_lengths
from overtrain.model.olmo import LOGITS
from overtrain.training.processes import Processes
from overtrain.training.tuning import AnyTuning


@dataclass(frozen=True)
class Tuning(AnyTuning):
    """Everything that the weights of a projector or of a run depend on.

    layer: of the encoder's hidden states; text_template: the chat template of the text model that
    is left, or None in alignment, where the projector alone is trained.
    """

    encoder: str
    layer: int
    text_template: str | None

    @classmethod
    def of_projector(cls, slice_: dict, **names: Any) -> Tuning:
        """From the configuration's slice for one projector; names: the model and the recipe."""
        return cls.of_settings(slice_["recipe"], text_template=None, **names)

    @classmethod
    def of_run(cls, slice_: dict, **names: Any) -> Tuning:
        """From the configuration's slice for one run; names: the model, the task and the recipe."""
        template = slice_["chat"]["template"]
        return cls.of_settings(slice_["recipe"], text_template=template, **names)

    @classmethod
    def of_settings(cls, settings: dict, **more: Any) -> Tuning:
        """From settings as JSON has them."""
        every: dict[str, Any] = settings | {"betas": tuple(settings["betas"])} | more
        return cls(**every)

    @property
    def aligns(self) -> bool:
        return self.text_template is None

    @property
    def template_key(self) -> str:
        """In the configuration."""
        return f"visual_recipes.{self.recipe}{'.alignment' * self.aligns}.template"

    @property
    def rule(self) -> str:
        return "align_projector" if self.aligns else "finetune_vision"

    @property
    def trained(self) -> tuple[str, ...]:
        """How the names of the weights start that are trained."""
        return (vision.OF_PROJECTOR,) if self.aligns else (vision.OF_PROJECTOR, *vision.OF_TEXT)


@dataclass(frozen=True)
class Examples:
    """Conversations that are whole within max_length, and their images' names, or None."""

    messages: list[list[dict]]
    images: list[str | None]
    lengths: list[int]  # tokens, an image's among them

    @property
    def with_image(self) -> list[bool]:
        return [name is not None for name in self.images]

    def data(self, chosen: list[int]) -> Dataset:
        messages = [self.messages[i] for i in chosen]
        return Dataset.from_dict({"messages": messages, "image": [self.images[i] for i in chosen]})


def processor_of(own: Tuning, base: Path, encoder: Path) -> LlavaProcessor:
    """The processor.

    PipelineError where an image leaves no room in a conversation, or the template does not write
    one mark for it, or marks no response.
    """
    processor = vision.load_processor(base, encoder, own.template)
    # All would be left out for it but those without an image, and a run trained on these alone.
    talk = {"messages": exchange("What is this?", "A digit."), "image": "any"}
    ((_, tokens, mask),) = encoded([talk], processor, own)
    if (marks := tokens.count(processor.image_token_id)) != 1:
        raise PipelineError(
            f"{own.template_key}: it writes {vision.IMAGE} {marks} times for an image; it must once"
        )
    if not any(mask[1:]):
        raise PipelineError(f"{own.template_key}: it marks no response with {{% generation %}}")
    if (needed := vision.image_tokens(processor)) >= own.max_length:
        raise PipelineError(
            f"{encoder}: an image is {needed} tokens; max_length of recipe {own.recipe} is "
            f"{own.max_length}"
        )
    return processor


def read_examples(task: Path, split: str, processor: LlavaProcessor, own: Tuning) -> Examples:
    """The conversations of a split that can be trained on; the others are counted."""
    rows = read_split(task, split, "image_chat")
    of_image = vision.image_tokens(processor)
    found, left_out = Examples([], [], []), Counter[str]()
    for row, tokens, mask in encoded(rows, processor, own):
        images = tokens.count(processor.image_token_id)
        length = len(tokens) + images * (of_image - 1)
        if images != (row["image"] is not None):
            left_out["image marks that are not one for each image"] += 1
        elif own.aligns and not images:
            left_out["no image to align"] += 1
        elif length > own.max_length:
            left_out[f"longer than {own.max_length} tokens"] += 1
        elif not any(mask[1:]):
            left_out["no response"] += 1
        else:
            found.messages.append(row["messages"])
            found.images.append(row["image"])
            found.lengths.append(length)
    print(f"{split}: {len(rows)} conversations; left out: {dict(left_out) or 'none'}")
    if not found.lengths:
        raise PipelineError(f"{task}: no conversation of split {split} is left: {dict(left_out)}")
    return found


def encoded(
    rows: list[dict], processor: LlavaProcessor, own: Tuning
) -> Iterator[tuple[dict, list[int], list[int]]]:
    """Each row, its tokens with one for an image, and 1 where they are a response's."""
    for start in range(0, len(rows), 1000):  # the parts of all would take memory many times over
        chosen = rows[start : start + 1000]
        talks = [with_parts(row["messages"], row["image"]) for row in chosen]
        found = chat.encoded(talks, processor.tokenizer, own.template_key)
        for row, (tokens, mask) in zip(chosen, found, strict=True):
            yield row, tokens, mask


def with_parts(messages: list[dict], image: Any | None) -> list[dict]:
    """Messages whose contents are lists of parts, as the templates have them: the image is first.

    image: a name, or the image itself.
    """
    return prepare_multimodal_messages(messages, images=[] if image is None else [image])


class Decoded:
    """A batch of a data set with its images, which are decoded when it is read."""

    def __init__(self, images: Images):
        self.images = images

    def __call__(self, batch: dict) -> dict:
        images = [[] if name is None else [self.images[name]] for name in batch["image"]]
        return {"messages": batch["messages"], "images": images}


@torch.inference_mode()
def response_loss(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    examples: Examples,
    images: Images,
    processes: Processes,
) -> Score:
    """Mean loss in nats of a token of the responses; conversations are the units of its error."""
    model = model.to("cuda" if processes.cuda else "cpu").eval()
    collator = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)
    decoded = Decoded(images)
    lengths, kinds = np.array(examples.lengths), np.array(examples.with_image)
    sums, counts = np.zeros(len(lengths)), np.zeros(len(lengths))
    most = min(processes.batch_tokens, LOGITS // model.config.text_config.vocab_size)
    order = np.lexsort((lengths, kinds))  # those without an image first, each kind by length
    for kind in np.unique(kinds):
        of_kind = order[kinds[order] == kind]
        for part in of_like_lengths(lengths[of_kind], most):
            chosen = of_kind[part]
            rows = examples.data([int(i) for i in chosen]).with_transform(decoded)
            batch = collator(list(rows)).to(model.device)
            targets = batch.pop("labels")[:, 1:]
            logits = model(**batch, use_cache=False).logits[:, :-1].float()
            losses = F.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORE
            )
            sums[chosen] = losses.view(targets.shape).double().sum(1).cpu().numpy()
            counts[chosen] = (targets != IGNORE).sum(1).cpu().numpy()
    return mean_loss(sums[None], counts)
