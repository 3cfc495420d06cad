"""Conversations: rows of instruction data turned into user and assistant turns, and their splits.

A conversation is a list of {"role", "content"} messages, the user's and the assistant's in turns,
that ends in one of the assistant's.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from overtrain import PipelineError

Messages = list[dict[str, str]]
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system"}  # LLaVA's


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


def from_llava(row: dict) -> Messages:
    """LLaVA: a list of turns; as in its own training, what comes before the first question goes."""
    try:
        said = [(t["from"], (t["value"] or "").strip()) for t in row["conversations"]]
    except KeyError as error:
        raise PipelineError(
            f"a turn of column 'conversations' has no {error}; it has "
            f"{sorted(row['conversations'][0])}"
        ) from error
    if not {speaker for speaker, _ in said} <= SPEAKERS.keys():
        raise MalformedError("a turn of neither human nor gpt")
    while said and said[0][0] == "gpt":
        said.pop(0)
    return [{"role": SPEAKERS[speaker], "content": text} for speaker, text in said]


# The columns that a format reads, and how.
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[dict], Messages]]] = {
    "hh": (("chosen",), from_hh),
    "messages": (("messages",), from_messages),
    "alpaca": (("instruction", "input", "output"), from_alpaca),
    "llava": (("conversations",), from_llava),
}


def conversation(row: dict, kind: str) -> Messages:
    """The conversation of a row of format `kind`.

    MalformedError if it is none; PipelineError names a column that is not there.
    """
    columns, parse = FORMATS[kind]
    for column in columns:
        if column not in row:
            raise PipelineError(
                f"no column {column!r}, which format {kind} reads; the source has {sorted(row)}"
            )
        if row[column] is None:
            raise MalformedError("a column without a value")
    try:
        messages = parse(row)
    except (AttributeError, KeyError, TypeError) as error:
        own = {column: type(row[column]).__name__ for column in columns}
        raise PipelineError(
            f"format {kind} cannot read a row whose columns are {own} ({error})"
        ) from error
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


def prompt_of(example: dict) -> str:
    return prompt_key(example["messages"])


def example_of(row: dict, kind: str) -> dict:
    """{"messages", "dataset"} of a row; MalformedError if it is no conversation."""
    return {"messages": conversation(row, kind), "dataset": row.get("dataset")}


def read(
    rows: Iterable[dict], kind: str, example: Callable[[dict, str], dict] = example_of
) -> tuple[list[dict], Counter]:
    """The example of each row that is a conversation, once each; why others are none.

    example: of a row and its format; an "image" in it tells apart what is said of two images.
    """
    found: list[dict] = []
    left_out: Counter[str] = Counter()
    seen = set()
    for row in rows:
        try:
            own = example(row, kind)
        except MalformedError as reason:
            left_out[str(reason)] += 1
            continue
        texts = (own.get("image"), *((m["role"], m["content"]) for m in own["messages"]))
        if (key := hashlib.sha256(repr(texts).encode()).digest()) in seen:
            left_out["a repetition"] += 1
            continue
        seen.add(key)
        found.append(own)
    return found, left_out


def disjoint(
    examples: dict[str, list[dict]],
    sizes: dict[str, int],
    key_of: Callable[[dict], str] = prompt_of,
) -> dict[str, list[dict]]:
    """Test, validation and training conversations, at most `sizes` of each.

    No key of one split stands in another; test and validation hold each key once. A split that the
    source lacks is taken from its training rows, which come in the order of the draw.

    key_of: what must not stand in two splits: the prompt.
    """
    taken: set[str] = set()
    splits: dict[str, list[dict]] = {}
    for split in ("test", "validation", "train"):  # training yields to the others
        own: set[str] = set()
        chosen = splits[split] = []
        for example in examples.get(split, examples["train"]):
            if len(chosen) == sizes[split]:
                break
            key = key_of(example)
            if key not in taken and (split == "train" or key not in own):
                own.add(key)
                chosen.append(example)
        taken |= own
    return splits


# --- what the manifest says -----------------------------------------------------------------------


def spread(values: list[int]) -> dict[str, float | dict[str, float]]:
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
