"""Conversations: data sets turned into user and assistant turns, and turns into tokens and targets.

A conversation is a list of {"role", "content"} messages that ends in an assistant turn. One chat
template serves all base models; what it marks with {% generation %} is the response, and only the
response carries loss (the paper does not say; docs/deviations.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from overtrain import PipelineError
from overtrain.architecture import IGNORE

Messages = list[dict[str, str]]
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


class MalformedError(Exception):
    """Why a row is no conversation; it is left out and counted."""


def exchange(question: str, answer: str) -> Messages:
    """A conversation of one question and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


# --- rows of a data set to conversations ----------------------------------------------------------


def from_hh(row: dict) -> Messages:
    """Anthropic-HH: one text of "\\n\\nHuman: ..." and "\\n\\nAssistant: ..." turns."""
    start, *parts = TURN.split(row["chosen"])
    if start.strip():
        raise MalformedError("text before the first turn")
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": ROLES[name], "content": text.strip()} for name, text in turns]


def from_messages(row: dict) -> Messages:
    """TULU: a list of messages."""
    try:
        return [
            {"role": m["role"], "content": (m["content"] or "").strip()} for m in row["messages"]
        ]
    except KeyError as error:
        raise PipelineError(
            f"a message of column 'messages' has no {error}; it has {sorted(row['messages'][0])}"
        ) from error


def from_alpaca(row: dict) -> Messages:
    """Alpaca: an instruction, its input where it has one, and the output."""
    question = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
    return exchange(question.strip(), row["output"].strip())


# The columns that a format reads, and how.
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[dict], Messages]]] = {
    "hh": (("chosen",), from_hh),
    "messages": (("messages",), from_messages),
    "questions": (("messages",), from_messages),
    "alpaca": (("instruction", "input", "output"), from_alpaca),
}


def conversation(row: dict, kind: str) -> Messages:
    """The conversation of a row of format `kind`.

    MalformedError if it is none; PipelineError names a column that is not there.
    """
    columns, read = FORMATS[kind]
    for column in columns:
        if column not in row:
            raise PipelineError(
                f"no column {column!r}, which format {kind} reads; the source has {sorted(row)}"
            )
        if row[column] is None:
            raise MalformedError("a column without a value")
    messages = read(row)
    roles = [m["role"] for m in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or turns[-1] != "assistant":
        raise MalformedError("does not end in an assistant turn")
    if turns != ["user", "assistant"] * (len(turns) // 2):
        raise MalformedError("user and assistant do not take turns")
    if not all(m["content"] for m in messages):
        raise MalformedError("an empty turn")
    return messages


def prompt_key(messages: Messages) -> str:
    """The first user turn, lower case and with single spaces: what makes two prompts the same."""
    first = next(m["content"] for m in messages if m["role"] == "user")
    return " ".join(first.lower().split())


def conversations(rows: list[dict], kind: str) -> tuple[list[dict], Counter]:
    """{"messages", "dataset"} of each row that is a conversation, once each; why others are not."""
    found, left_out, seen = [], Counter(), set()
    for row in rows:
        try:
            messages = conversation(row, kind)
        except MalformedError as reason:
            left_out[str(reason)] += 1
            continue
        key = tuple((m["role"], m["content"]) for m in messages)
        if key in seen:
            left_out["a repetition"] += 1
            continue
        seen.add(key)
        found.append({"messages": messages, "dataset": row.get("dataset")})
    return found, left_out


def disjoint(examples: dict[str, list[dict]], sizes: dict[str, int]) -> dict[str, list[dict]]:
    """Test, validation and training conversations, at most `sizes` of each.

    No prompt of one split stands in another; test and validation hold each prompt once. A split
    that the source lacks is taken from its training rows, which come in the order of the draw.
    """
    taken: set[str] = set()
    splits = {}
    for split in ("test", "validation", "train"):  # training yields to the others
        own: set[str] = set()
        chosen = splits[split] = []
        for example in examples.get(split, examples["train"]):
            if len(chosen) == sizes[split]:
                break
            key = prompt_key(example["messages"])
            if key not in taken and (split == "train" or key not in own):
                own.add(key)
                chosen.append(example)
        taken |= own
    return splits


# --- what the manifest says -----------------------------------------------------------------------


def spread(values: list[int]) -> dict[str, float]:
    """Mean, quantiles and largest of a list of counts."""
    quantiles = np.quantile(values, QUANTILES)
    own = {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}
    return {"mean": float(np.mean(values)), "quantiles": own, "largest": int(max(values))}


def summary(examples: list[dict], count: Callable[[list[str]], list[int]] | None) -> dict:
    """Turns, characters and tokens of a split's conversations, and how many each source gave.

    count: the tokens of each of some texts, by the tokenizer that the task names; None for none.
    Prompt is all that is not the assistant's.
    """
    units = {"characters": lambda texts: [len(text) for text in texts]}
    if count:
        units["tokens"] = count
    result: dict = {"turns": spread([len(e["messages"]) for e in examples])}
    for part, assistant in (("prompt", False), ("response", True)):
        texts = [
            [m for m in e["messages"] if (m["role"] == "assistant") == assistant] for e in examples
        ]
        numbers = [len(own) for own in texts]
        for unit, measure in units.items():
            each = iter(measure([m["content"] for own in texts for m in own]))
            sums = [sum(next(each) for _ in range(n)) for n in numbers]
            result.setdefault(unit, {})[part] = spread(sums)
    sources = Counter(e["dataset"] for e in examples if e["dataset"] is not None)
    return result | ({"datasets": dict(sources.most_common())} if sources else {})


# --- conversations to tokens ----------------------------------------------------------------------


def load_tokenizer(base: Path, template: str):
    """The tokenizer of a checkpoint directory, with `template` as its chat template.

    One without a padding token pads with its end of text, which it must have.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            base, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers raise what they like
        reason = " ".join(str(error).split())
        raise PipelineError(f"{base}: not a readable tokenizer ({reason[:200]})") from error
    if tokenizer.eos_token_id is None:
        raise PipelineError(
            f"{base}: its tokenizer has no end of text (eos_token) to learn to stop at"
        )
    if tokenizer.pad_token_id is None:
        print(f"{base}: no padding token; {tokenizer.eos_token!r}, the end of text, pads")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = template
    return tokenizer


def encode(
    conversations: list[Messages], tokenizer: object, max_length: int
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


def encoded(
    conversations: list[Messages], tokenizer: object
) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens of each conversation, and 1 where they are a response's."""
    from jinja2 import TemplateError

    for start in range(0, len(conversations), 1000):  # all at once would hold every offset
        part = conversations[start : start + 1000]
        try:
            found = tokenizer.apply_chat_template(
                part, return_dict=True, return_assistant_tokens_mask=True
            )
        except TemplateError as error:
            raise PipelineError(f"chat.template: {' '.join(str(error).split())}") from error
        yield from zip(found["input_ids"], found["assistant_masks"], strict=True)
