"""What an instruction-tuned model answers: greedy, in its own chat template, batched by lm-eval.

Greedy, so that a run's answers are the same each time and differ from another's only by its
weights. lm-eval cuts off what a context has no room for, the template's marks among it: here a
prompt that would leave less room than the new tokens take loses the start of its text alone; how
many do is logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase as Tokenizer

from overtrain import PipelineError
from overtrain.measuring import harness
from overtrain.model import chat


@dataclass(frozen=True)
class Decoding:
    """new_tokens: at most so many an answer; backend: hf (transformers) or vllm."""

    new_tokens: int
    batch_size: int
    backend: str = "hf"


def respond(
    folder: Path,
    prompts: list[str],
    how: Decoding,
    device: torch.device,
    template: str | None = None,
) -> list[str]:
    """The answers of the model in `folder` (a Hugging Face directory) to `prompts`, in order.

    In bfloat16 on a GPU, in float32 on the CPU. template: of the chat, instead of its tokenizer's.
    PipelineError if there is none or its context has no room for an answer.
    """
    from lm_eval.api.instance import Instance

    tokenizer = chat.load_tokenizer(folder, template)
    settings = {"backend": how.backend, "batch_size": how.batch_size}
    model = harness.language_model(folder, settings, device.type, 1, add_bos_token=False)
    rendered = fitting(tokenizer, prompts, model.max_length - how.new_tokens, folder)
    greedy = {"do_sample": False, "max_gen_toks": how.new_tokens}
    if how.backend == "vllm":
        greedy["skip_special_tokens"] = True  # as lm-eval does itself with transformers
    requests = [
        Instance("generate_until", {}, (text, greedy), place) for place, text in enumerate(rendered)
    ]
    return [answer.strip() for answer in model.generate_until(requests)]


def fitting(tokenizer: Tokenizer, prompts: list[str], room: int, folder: Path) -> list[str]:
    """Each prompt as a user's turn of at most `room` tokens: a longer text loses its start."""

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    rendered = [turn(tokenizer, text) for text in prompts]
    overhead = length(turn(tokenizer, ""))
    if overhead >= room:
        raise PipelineError(
            f"{folder}: a context with room for {room} tokens of a prompt, of which the chat "
            f"template takes {overhead}; lower evaluations.alpaca.max_new_tokens, or new_tokens "
            "of the task that is asked"
        )
    long = [place for place, text in enumerate(rendered) if length(text) > room]
    for place in long:
        words = tokenizer(prompts[place], add_special_tokens=False).input_ids
        keep = room - overhead
        while length(rendered[place]) > room:  # a text cut between tokens may make more of them
            text = tokenizer.decode(words[max(0, len(words) - keep) :]) if keep else ""
            rendered[place] = turn(tokenizer, text)
            keep -= 1
    if long:
        print(f"{len(long)} of {len(prompts)} prompts lost their start: more than {room} tokens")
    return rendered


def turn(tokenizer: Tokenizer, text: str) -> str:
    messages = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
