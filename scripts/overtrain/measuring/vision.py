"""What a visually tuned model answers about images: greedy, in its recipe's template, in batches.

Greedy, so that a run's answers are the same each time and differ from another's only by its
weights; only the end of text ends an answer. Questions of about the same length are asked together,
padded on the left: an answer does not depend on what it is asked with, but for rounding.

A question that leaves no room for an answer beside its image is not asked: its answer is none, it
counts as wrong, and how many there are is logged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch
from PIL import Image
from transformers import GenerationConfig
from transformers.models.llava import LlavaForConditionalGeneration, LlavaProcessor

from overtrain import PipelineError
from overtrain.data.images import Images
from overtrain.model import vision

ANSWERS = pa.schema(
    {
        "benchmark": pa.string(),
        "id": pa.string(),
        "category": pa.string(),
        "question": pa.string(),
        "answer": pa.string(),  # null if it was not asked
        "correct": pa.float64(),  # in [0, 1]; null if the run diverged
    }
)
AHEAD = 2  # batches whose images are read while one is answered

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Model:
    """A run's model with its processor, on its device."""

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor
    where: Path

    @property
    def context(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def prompt(self, question: str) -> str:
        """The text of a user's turn of an image and a question, with one mark for the image."""
        parts = [{"type": "image"}, {"type": "text", "text": question}]
        turn = [{"role": "user", "content": parts}]
        return self.processor.apply_chat_template(turn, add_generation_prompt=True)

    def tokens(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        """Padded on the left; the image's mark is as many tokens as the encoder has patches."""
        image = vision.IMAGE * vision.image_tokens(self.processor)
        found = self.processor.tokenizer(
            [prompt.replace(vision.IMAGE, image) for prompt in prompts],
            padding=True,
            padding_side="left",
            add_special_tokens=False,  # as in training: the template says all
            return_tensors="pt",
        )
        return {key: found[key] for key in ("input_ids", "attention_mask")}

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        return self.processor.image_processor(images, return_tensors="pt")["pixel_values"]

    def generate(self, prompts: list[str], pixels: torch.Tensor, new_tokens: int) -> list[str]:
        """The answers to a batch."""
        tokenizer, device = self.processor.tokenizer, self.model.device
        greedy = GenerationConfig(  # a checkpoint's own may penalise what was said
            do_sample=False,
            max_new_tokens=new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        inputs = {key: value.to(device) for key, value in self.tokens(prompts).items()}
        ids = self.model.generate(
            **inputs, pixel_values=pixels.to(device, self.model.dtype), generation_config=greedy
        )
        new = ids[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def load(run: Path, encoder: Path, template: str, layer: int, device: torch.device) -> Model:
    """The model in a run's folder: bfloat16 on a GPU, float32 on the CPU."""
    processor = vision.load_processor(run, encoder, template)
    model = vision.load_llava(run, encoder, layer, run)
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    return Model(model.to(device, precision).eval(), processor, run)


@torch.inference_mode()
def ask(
    model: Model,
    questions: list[dict],
    images: Images,
    new_tokens: int,
    batch_size: int,
    threads: int = 1,
) -> list[str | None]:
    """The answers to `questions` (rows of `vision_questions.SCHEMA`), in order.

    None where there is no room for an answer; PipelineError if there is none for any. threads:
    those that read images, beside the one that asks.
    """
    prompts = [model.prompt(question["question"]) for question in questions]
    texts = model.processor.tokenizer(prompts, add_special_tokens=False).input_ids
    of_image = vision.image_tokens(model.processor) - 1  # beside its mark
    lengths = [len(text) + of_image for text in texts]
    room = model.context - new_tokens
    asked = sorted((p for p in range(len(prompts)) if lengths[p] <= room), key=lengths.__getitem__)
    if not asked:
        raise PipelineError(
            f"{model.where}: no question has room in a context of {model.context} tokens: the "
            f"shortest takes {min(lengths)} with its image, an answer {new_tokens}"
        )
    if left := len(prompts) - len(asked):
        print(f"{left} of {len(prompts)} questions leave no room for an answer; counted as wrong")
    asked.reverse()  # the longest first: what has no memory for it fails at once
    batches = [asked[start : start + batch_size] for start in range(0, len(asked), batch_size)]

    def pixels(batch: list[int]) -> torch.Tensor:  # of no tokenizer, which threads cannot share
        return model.pixels([images[questions[place]["image"]] for place in batch])

    answers: list[str | None] = [None] * len(prompts)
    for batch, read in zip(batches, ahead(pixels, batches, threads), strict=True):
        own = [prompts[place] for place in batch]
        for place, answer in zip(batch, model.generate(own, read, new_tokens), strict=True):
            answers[place] = answer
    return answers


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """function of each item, some computed while earlier ones are used."""
    waiting: deque[Any] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > max(AHEAD, threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def answer_rows(
    benchmark: str, questions: list[dict], answers: list[str | None], credits: Iterable | None
) -> list[dict]:
    """Rows of ANSWERS; credits: how right each is, or None of a run that diverged."""
    rights = [None] * len(questions) if credits is None else credits
    return [
        {key: question[key] for key in ("id", "category", "question")}
        | {"benchmark": benchmark, "answer": answer, "correct": right}
        for question, answer, right in zip(questions, answers, rights, strict=True)
    ]
