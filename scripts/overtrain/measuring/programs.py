"""Programs that a model wrote: whether they still hold a docstring, and comments.

A program is read by Python's own parser, never by looking for quotes. One that was cut at the new
tokens is read as far as it goes: with an open docstring closed, or without its last lines. What is
no Python even so counts as `unparsed`, and as without a docstring: with one at its start it could
be read up to there.
"""

from __future__ import annotations

import ast
import json
import math
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from overtrain.data.programs import parse, tokens, with_newlines
from overtrain.data.tasks import read_split
from overtrain.model import chat
from overtrain.model.losses import language_modelling
from overtrain.model.memory import Room
from overtrain.model.released import ALL_STEPS, STEPS, Released, load_model
from overtrain.records.measurements import loss_rows, row

ENDS = ('"""', "'''", '"', "'")  # what a string may lack that was cut
ANSWERS = pa.schema(
    {
        "step": pa.int64(),  # of the weights that answered; null: a base model's
        "question": pa.string(),
        "answer": pa.string(),  # null of a run that diverged
        "docstring": pa.bool_(),  # null where the program does not parse
        "comment": pa.bool_(),
    }
)


@dataclass(frozen=True)
class Program:
    """docstring: whether its first function has one; comment: whether there is any."""

    docstring: bool
    comment: bool


def read(text: str) -> Program | None:
    """What the program in a text holds; None if it is none, or has no function."""
    for candidate in candidates(with_newlines(text)):
        if (tree := parse(candidate)) is not None and (function := first_function(tree)):
            comments = any(token.type == tokenize.COMMENT for token in tokens(candidate))
            return Program(ast.get_docstring(function) is not None, comments)
    return None


def first_function(tree: ast.Module) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The one that begins first."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return min(found, key=lambda node: node.lineno, default=None)


def candidates(text: str) -> Iterator[str]:
    """A text as it is; with a string closed that was cut; without its last lines, one by one."""
    yield text
    for end in ENDS:
        yield text.rstrip("\\") + end
    if text.endswith(("'", '"')):  # the first of three; two more would begin a string elsewhere
        yield text + 2 * text[-1]
    lines = text.split("\n")
    for last in range(len(lines) - 1, 0, -1):
        yield "\n".join(lines[:last])


def read_all(prompts: list[str], said: list[str], begins: str) -> list[Program | None]:
    """What the programs hold that a model wrote; begins: where they do, question or answer."""
    before = prompts if begins == "question" else [""] * len(prompts)
    return [read(prompt + answer) for prompt, answer in zip(before, said, strict=True)]


def score_rows(found: list[Program | None], identity: dict) -> list[dict]:
    """Measurement rows: shares of all programs, and how many of them do not parse.

    `stderr` is that of a share, sqrt(p (1 - p) / n).
    """
    own = identity | {"evaluation": "programs", "split": "test"}
    n = len(found)
    rows = [row(own, "unparsed", found.count(None), n=n)]
    for metric in ("docstring", "comment"):
        share = sum(getattr(program, metric) for program in found if program) / n
        rows.append(row(own, f"{metric}_share", share, math.sqrt(share * (1 - share) / n), n))
    return rows


def diverged_rows(questions: int, identity: dict) -> list[dict]:
    """The same, and the loss, of a run without weights."""
    own = identity | {"evaluation": "programs", "split": "test"}
    metrics = ("unparsed", "docstring_share", "comment_share")
    lost = [row(own, metric, math.nan, n=questions) for metric in metrics]
    validation = identity | {"evaluation": "id", "split": "validation"}
    return lost + loss_rows(validation, math.nan, math.nan, 0)


def validation_rows(
    weights: Path, task: Path, config: dict, room: Room, identity: dict
) -> list[dict]:
    """Loss on the answers of the validation split, by which the learning rate is chosen.

    config: template and max_length, in which the answers stand as in training.
    """
    tokenizer = chat.load_tokenizer(weights, config["template"])
    messages = [row["messages"] for row in read_split(task, "validation", "prompted")]
    ids, labels, _ = chat.encode(messages, tokenizer, config["max_length"])
    model = Released(load_model(weights).to(room.device))
    text = chat.padded(ids, labels, tokenizer.pad_token_id)
    score = language_modelling(model, text, model.batch_tokens(room.batch_tokens))
    return score.rows(identity | {"evaluation": "id", "split": "validation"}, 0)


def answer_rows(
    prompts: list[str], said: list[str], found: list[Program | None], step: int | None
) -> list[dict]:
    """Rows of ANSWERS."""
    return [
        {"step": step, "question": question, "answer": answer}
        | ({"docstring": own.docstring, "comment": own.comment} if own else {})
        for question, answer, own in zip(prompts, said, found, strict=True)
    ]


def weights_of(run: Path) -> Iterator[tuple[dict, Path]]:
    """(identity, folder) of a run's weights: those kept at a step, in order, and the last."""
    kept = sorted((run / STEPS).glob("*"), key=lambda folder: int(folder.name))
    for folder in kept:
        yield {"selection": "snapshot", "step": int(folder.name)}, folder
    steps = json.loads((run / ALL_STEPS).read_text()) if (run / ALL_STEPS).exists() else None
    yield {"selection": "last", "step": steps}, run
