"""Which of two answers is better: the judge's question, its verdict, and what is kept of both.

The question is AlpacaEval's own, read from the installed package `alpaca_eval`: the answer is the
identifier of the better output, m for the first and M for the second, in one token. A verdict is
that identifier, the likelier of the two where the judge tells their probabilities. Anything else is
an invalid verdict: it is asked again, then counted, never guessed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from overtrain import PipelineError

FIRST, SECOND, TIE = "first", "second", "tie"
IDENTIFIERS = {"m": FIRST, "M": SECOND}  # of the outputs, in AlpacaEval's question
TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.S)
PLACE = re.compile(r"\{(instruction|output_1|output_2)\}")


@dataclass(frozen=True)
class Question:
    """Two outputs for one instruction, in the order in which the judge sees them."""

    instruction: str
    first: str
    second: str
    answer: str | None = None  # where it is known


@dataclass(frozen=True)
class Verdict:
    """choice: "first", "second", "tie", or None for an invalid one; raw: what the judge said."""

    choice: str | None
    raw: str


class Judge(Protocol):
    """identity: what its verdicts depend on beside the question."""

    identity: dict

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Verdict]]:
        """The verdict on each question with its place, in any order."""


# --- the question ---------------------------------------------------------------------------------


class Template:
    """An annotator's prompt of the package `alpaca_eval`, as a chat's messages."""

    def __init__(self, name: str):
        """name: a file under the package's evaluators_configs.

        The package is not imported: it would read a .env file into this job's environment.
        """
        package = find_spec("alpaca_eval")
        if package is None or package.origin is None:
            raise PipelineError("the package alpaca-eval, which has the judge's prompt, is missing")
        folder = Path(package.origin).with_name("evaluators_configs")
        if not (folder / name).is_file():
            raise PipelineError(f"alpaca_eval has no prompt {name}; try */alpaca_eval_clf.txt")
        text = (folder / name).read_text("utf-8")
        self.turns = TURN.findall(text)
        places = {place for _, content in self.turns for place in PLACE.findall(content)}
        if len(places) < 3:
            raise PipelineError(f"{name} of alpaca_eval: no chat with instruction and two outputs")
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def messages(self, question: Question) -> list[dict[str, str]]:
        """Filled in one pass, after the turns are split: no output can add turns or places."""
        values = {
            "instruction": question.instruction,
            "output_1": question.first,
            "output_2": question.second,
        }
        return [
            {"role": role, "content": PLACE.sub(lambda place: values[place[1]], content).strip()}
            for role, content in self.turns
        ]


def identity_of(settings: dict, template: Template, folder: Path | None) -> dict:
    """What the verdicts of a language model depend on."""
    identity = {"model": settings["model"], "template": template.sha256}
    if folder:
        identity["files"] = json.loads((folder / "manifest.json").read_text())["sha256"]
    return identity


# --- what is kept ---------------------------------------------------------------------------------


class Verdicts:
    """Valid verdicts on disk: a line each, appended as it comes, so that a killed job goes on.

    A line is written whole by one call; what was torn nevertheless, or is not a verdict, is passed
    over in reading. Invalid verdicts are not kept: a later job asks again.
    """

    def __init__(self, path: Path, identity: dict):
        """path: one file for each sweep, so that no two jobs share it."""
        self.identity = identity
        self.known: dict[str, Verdict] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                key, choice, raw = json.loads(line)
            except ValueError:
                continue
            self.known[key] = Verdict(choice, raw)
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self.file, b"\n")  # ends a line that a killed job left torn

    def key(self, question: Question) -> str:
        content = json.dumps([self.identity, *astuple(question)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def add(self, key: str, verdict: Verdict) -> None:
        if verdict.choice is not None:
            self.known[key] = verdict
            line = json.dumps([key, verdict.choice, verdict.raw]) + "\n"
            os.write(self.file, line.encode())

    def close(self) -> None:
        os.close(self.file)


def likelier(m: float, big_m: float) -> str | None:
    """The verdict of two log probabilities (or logits)."""
    if math.isnan(m) or math.isnan(big_m):
        return None
    return TIE if m == big_m else FIRST if m > big_m else SECOND
