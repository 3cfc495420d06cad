"""What an instruction-tuned model answers: greedy, in its own chat template, batched by length.

Greedy, so that a run's answers are the same each time and differ from another's only by its
weights. A prompt that would leave less room than the new tokens take loses the start of its text,
never the template's marks; how many do is logged. Left padding is masked and moves positions, so a
batch answers as each prompt alone would.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import GenerationConfig
from transformers import PreTrainedTokenizerBase as Tokenizer

from overtrain import PipelineError
from overtrain.model import released


@dataclass(frozen=True)
class Decoding:
    """new_tokens: at most so many an answer; backend: hf, vllm or auto (vLLM where it can be)."""

    new_tokens: int
    batch_size: int
    backend: str = "auto"


def respond(folder: Path, prompts: list[str], how: Decoding, device: torch.device) -> list[str]:
    """The answers of the model in `folder` (a Hugging Face directory) to `prompts`, in order.

    In bfloat16 on a GPU, in float32 on the CPU. PipelineError if its tokenizer has no chat template
    or its context no room for an answer.
    """
    tokenizer = load_tokenizer(folder)
    context = context_of(folder)
    encoded = encode(tokenizer, prompts, context - how.new_tokens, folder)
    if uses_vllm(how.backend, device.type == "cuda"):
        generated = with_vllm(folder, encoded, how, context, tokenizer.eos_token_id)
    else:
        generated = with_transformers(folder, encoded, how, tokenizer, device)
    return [t.strip() for t in tokenizer.batch_decode(generated, skip_special_tokens=True)]


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """A tokenizer that pads on the left, with the end of text if it has no padding of its own."""
    tokenizer = released.load_tokenizer(folder)
    if tokenizer.chat_template is None:
        raise PipelineError(f"{folder}: its tokenizer has no chat template")
    if tokenizer.eos_token is None:
        raise PipelineError(f"{folder}: its tokenizer has no token that ends a text")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_model(folder: str | Path, device: torch.device) -> torch.nn.Module:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return released.load_model(folder, dtype).to(device).eval()


def context_of(folder: Path) -> int:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder).max_position_embeddings


def encode(tokenizer: Tokenizer, prompts: list[str], room: int, folder: Path) -> list[list[int]]:
    """Token ids of each prompt as a user's turn, at most `room`: a longer text loses its start."""
    encoded = [turn(tokenizer, text) for text in prompts]
    overhead = len(turn(tokenizer, ""))
    if overhead >= room:
        raise PipelineError(
            f"{folder}: a context with room for {room} tokens of a prompt, of which the chat "
            f"template takes {overhead}; lower evaluations.alpaca.max_new_tokens"
        )
    long = [place for place, ids in enumerate(encoded) if len(ids) > room]
    for place in long:
        words = tokenizer(prompts[place], add_special_tokens=False).input_ids
        keep = room - overhead
        while len(encoded[place]) > room:  # a text cut between tokens may make more of them
            text = tokenizer.decode(words[max(0, len(words) - keep) :]) if keep else ""
            encoded[place] = turn(tokenizer, text)
            keep -= 1
    if long:
        print(f"{len(long)} of {len(prompts)} prompts lost their start: more than {room} tokens")
    return encoded


def turn(tokenizer: Tokenizer, text: str) -> list[int]:
    messages = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(rendered, add_special_tokens=False).input_ids


def by_length(encoded: Sequence[list[int]], batch_size: int) -> list[list[int]]:
    """Places of `encoded` in batches, the longest first: what does not fit fails at once."""
    order = sorted(range(len(encoded)), key=lambda place: -len(encoded[place]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@torch.inference_mode()
def with_transformers(
    folder: Path,
    encoded: list[list[int]],
    how: Decoding,
    tokenizer: Tokenizer,
    device: torch.device,
) -> list[list[int]]:
    model = load_model(folder, device)
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=how.new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    generated: list[list[int]] = [[]] * len(encoded)
    with tqdm(desc="responses", total=len(encoded), unit="prompt") as bar:
        for places in by_length(encoded, how.batch_size):
            own = {"input_ids": [encoded[place] for place in places]}
            batch = tokenizer.pad(own, return_tensors="pt").to(device)
            out = model.generate(**batch, generation_config=greedy)
            for place, ids in zip(places, out[:, batch.input_ids.shape[1] :].tolist(), strict=True):
                end = ids.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in ids else None
                generated[place] = ids[:end]
            bar.update(len(places))
    return generated


def has_vllm() -> bool:
    try:
        return bool(metadata.version("vllm"))
    except metadata.PackageNotFoundError:
        return False


def uses_vllm(backend: str, cuda: bool) -> bool:
    """Whether vLLM runs the model: told to, or where it can (`auto`). To be asked before it does.

    PipelineError if it is told to and is not installed.
    """
    chosen = backend == "vllm" or (backend == "auto" and cuda and has_vllm())
    if chosen and not has_vllm():
        raise PipelineError(
            "backend is vllm (evaluations.alpaca or a suite of benchmark_suites), which is not "
            "installed here; auto or hf?"
        )
    if chosen:
        # Its engine would be a process of its own: forked from one that has used CUDA it fails, and
        # so vLLM spawns it, which runs the main module, a rule's script, again.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    print(f"backend: {'vllm' if chosen else 'transformers'}")
    return chosen


def with_vllm(
    folder: Path, encoded: list[list[int]], how: Decoding, context: int, end: int
) -> list[list[int]]:
    """The same through vLLM, which is not in the lock: it asks for a GPU and pins its own torch."""
    vllm = import_module("vllm")
    model = vllm.LLM(model=str(folder), dtype="bfloat16", max_model_len=context)
    greedy = vllm.SamplingParams(
        temperature=0.0, max_tokens=how.new_tokens, stop_token_ids=[end], detokenize=False
    )
    prompts = [{"prompt_token_ids": ids} for ids in encoded]
    outputs = model.generate(prompts, greedy)
    return [[i for i in output.outputs[0].token_ids if i != end] for output in outputs]
