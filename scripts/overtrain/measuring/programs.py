"""Programs that a model wrote: whether they still hold a docstring, and comments.

A program is read by Python's own parser, never by looking for quotes. One that was cut at the new
tokens is read as far as it goes: with an open docstring closed, or without its last lines. What is
no Python even so is counted as `unparsed` and is in no share.
"""

from __future__ import annotations

import math
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from overtrain.data.programs import docstrings, parse, tokens
from overtrain.records.measurements import row

STEPS = "steps"  # in a run's folder: a model's folder for each step at which its weights were kept
QUOTES = ('"""', "'''")
ANSWERS = pa.schema(
    {
        "step": pa.int64(),  # of the weights that answered; null: the last, or a base model's
        "question": pa.string(),
        "answer": pa.string(),  # null of a run that diverged
        "docstring": pa.bool_(),  # null where the program does not parse
        "comment": pa.bool_(),
    }
)


@dataclass(frozen=True)
class Program:
    """What a program holds."""

    docstring: bool
    comment: bool


def read(text: str) -> Program | None:
    """What the program in a text holds; None if it is none."""
    for candidate in candidates(text):
        if (tree := parse(candidate)) is not None and tree.body:
            comments = any(token.type == tokenize.COMMENT for token in tokens(candidate))
            return Program(bool(docstrings(tree)), comments)
    return None


def candidates(text: str) -> Iterator[str]:
    """A text as it is; with a string closed that was cut; without its last lines, one by one."""
    yield text
    for quotes in QUOTES:
        yield text + quotes
    lines = text.split("\n")
    for last in range(len(lines) - 1, 0, -1):
        yield "\n".join(lines[:last])


def score_rows(read: list[Program | None], identity: dict) -> list[dict]:
    """Measurement rows: shares of the programs that parse, and how many do not.

    `stderr` is that of a share, sqrt(p (1 - p) / n).
    """
    own = identity | {"evaluation": "programs", "split": "test"}
    whole = [program for program in read if program is not None]
    rows = [row(own, "unparsed", len(read) - len(whole), n=len(read))]
    for metric in ("docstring", "comment"):
        held, n = sum(getattr(program, metric) for program in whole), len(whole)
        share = held / n if n else math.nan
        error = math.sqrt(share * (1 - share) / n) if n else math.nan
        rows.append(row(own, f"{metric}_share", share, error, n))
    return rows


def diverged_rows(questions: int, identity: dict) -> list[dict]:
    """The same of a run without weights."""
    own = identity | {"evaluation": "programs", "split": "test"}
    metrics = ("unparsed", "docstring_share", "comment_share")
    return [row(own, metric, math.nan, n=questions) for metric in metrics]


def weights_of(run: Path) -> Iterator[tuple[dict, Path]]:
    """(identity, folder) of a run's weights: those kept at a step, in order, and the last."""
    kept = sorted((run / STEPS).glob("*"), key=lambda folder: int(folder.name))
    for folder in kept:
        yield {"selection": "snapshot", "step": int(folder.name)}, folder
    yield {"selection": "last"}, run
