"""Conversations as tokens: one chat template for all base models, loss on the responses.

What the template marks with {% generation %} is a response, and only that carries loss (the paper
does not say; docs/deviations.md). TRL makes the same of it, to the token, but inside its trainer:
too late for batches that are ordered by length, and without a count of what is cut or left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase as Tokenizer

from overtrain import PipelineError
from overtrain.data.conversations import Messages
from overtrain.model import released
from overtrain.model.architecture import IGNORE
from overtrain.model.examples import Examples, pad


def load_tokenizer(folder: str | Path, template: str | None = None) -> Tokenizer:
    """The tokenizer of a model's directory, with `template` as its chat template or with its own.

    One without a padding token pads with its end of text, which it must have.
    """
    tokenizer = released.load_tokenizer(folder)
    tokenizer.chat_template = template or tokenizer.chat_template
    if tokenizer.chat_template is None:
        raise PipelineError(f"{folder}: its tokenizer has no chat template")
    if tokenizer.eos_token_id is None:
        raise PipelineError(f"{folder}: its tokenizer has no end of text (eos_token) to stop at")
    if tokenizer.pad_token_id is None:
        print(f"{folder}: no padding token; {tokenizer.eos_token!r}, the end of text, pads")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode(
    conversations: list[Messages], tokenizer: Tokenizer, max_length: int
) -> tuple[list[np.ndarray], list[np.ndarray], Counter]:
    """Tokens of each conversation, targets (IGNORE outside of responses), and what was cut.

    Both are cut to `max_length`; a conversation without a target left is dropped. The counter has
    "truncated" and "dropped".
    """
    ids, labels, counts = [], [], Counter(truncated=0, dropped=0)
    for tokens, mask in encoded(conversations, tokenizer):
        # The first token is never predicted: it has no target, and does not count as one.
        own = np.array(tokens[:max_length], np.int32)
        targets = np.where(np.array(mask[:max_length], bool), own, IGNORE)
        counts["truncated"] += len(tokens) > max_length
        if (targets[1:] == IGNORE).all():
            counts["dropped"] += 1
        else:
            ids.append(own)
            labels.append(targets)
    if not ids:
        raise PipelineError(
            "no conversation has a response token: none is shorter than max_length "
            f"({max_length}), or chat.template marks none with {{% generation %}}"
        )
    return ids, labels, counts


def padded(ids: list[np.ndarray], labels: list[np.ndarray], padding: int) -> Examples:
    """Inputs, and the tokens that follow them where they are a response's."""
    inputs = pad(ids, [1] * len(ids), padding)
    targets = pad(labels, [1] * len(ids), padding).targets
    return Examples(inputs.inputs, targets, inputs.lengths)


def encoded(
    conversations: list[Messages], tokenizer: Tokenizer, named: str = "chat.template"
) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens of each conversation, and 1 where they are a response's.

    named: the key of the configuration that the tokenizer's template is from.
    """
    from jinja2 import TemplateError

    for start in range(0, len(conversations), 1000):  # all at once would hold every offset
        part = conversations[start : start + 1000]
        try:
            found = tokenizer.apply_chat_template(
                part, return_dict=True, return_assistant_tokens_mask=True
            )
        except (TemplateError, TypeError) as error:  # a template may call and add what it likes
            raise PipelineError(f"{named}: {' '.join(str(error).split())}") from error
        yield from zip(found["input_ids"], found["assistant_masks"], strict=True)
