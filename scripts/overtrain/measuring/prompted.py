"""Prompted tasks: what a model is asked after a few examples, and what it answers.

Examples are of the task's own training split, drawn once for an evaluation: the same for all
models, checkpoints and formats, in the format of the question. Words are generated greedily and end
at the end of text or where the suite says (`stop`), or when there are as many as may be.
Of choices the label counts whose first token is the likeliest (`Amuro & Char`, section 4), whatever
else might be likelier; the generated text is kept beside it.

A prompt that would leave less room in the context than the new tokens take loses whole examples,
the first ones first. A question that does not fit alone loses the start of its text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from overtrain import PipelineError
from overtrain.data.tasks import read_split
from overtrain.records.provenance import seed_of

OWN = "id"  # evaluation: a run's task's validation split, which may choose its rate


@dataclass(frozen=True)
class Cell:
    """Questions of an evaluation in one format.

    questions, shots: rows of a prompted task (`data.tasks.COLUMNS`).
    """

    evaluation: str
    task: str
    split: str
    format: str
    new_tokens: int
    questions: list[dict]
    shots: list[dict]

    @property
    def where(self) -> str:
        return f"{self.evaluation} ({self.task}, {self.format})"

    def prompt(self, row: dict) -> str:
        return next(own["text"] for own in row["prompts"] if own["format"] == self.format)

    def prompts(self, separator: str) -> list[list[str]]:
        """Of each question: its prompt with all examples, with one less, ... and alone."""
        shots = [self.prompt(row) + row["answer"] for row in self.shots]
        return [
            [separator.join([*shots[first:], self.prompt(row)]) for first in range(len(shots) + 1)]
            for row in self.questions
        ]


@dataclass(frozen=True)
class Answer:
    """output: generated; label: the place of the likeliest of the choices; shots: examples left."""

    output: str
    label: int | None
    shots: int


def cells(asked: dict, questions: list[Path], examples: list[Path], own: list[Path]) -> list[Cell]:
    """All that the slice `asked` (`Catalogue.tasks_slice`) says to ask.

    questions, examples: files of test and training splits by task; own: the validation and the
    training file of a run's own task. PipelineError names a file that is missing.
    """
    found = []
    for name, settings in asked["evaluations"].items():
        rows = read(questions, settings["task"])[: asked.get("questions")]
        shots = draw(read(examples, settings["task"]), asked["shots"], name)
        found += [
            Cell(name, settings["task"], "test", form, settings["new_tokens"], rows, shots)
            for form in settings["formats"]
        ]
    if settings := asked.get("own"):
        validation, train = own
        rows = read([validation], settings["task"])[: asked["validation"]]
        shots = draw(read([train], settings["task"]), asked["shots"], settings["task"])
        own_cell = (OWN, settings["task"], "validation", "default", settings["new_tokens"])
        found.append(Cell(*own_cell, rows, shots))
    return found


def read(files: list[Path], task: str) -> list[dict]:
    """The rows of a task's file among those of a split."""
    path = next((path for path in files if path.parent.name == task), None)
    if path is None:
        raise PipelineError(f"task_suites: no file of the task {task!r} among the job's inputs")
    return read_split(path.parent, path.stem, "prompted")


def draw(train: list[dict], shots: int, evaluation: str) -> list[dict]:
    """The examples of an evaluation's prompts, in their order."""
    if len(train) < shots:
        raise PipelineError(
            f"{evaluation}: {len(train)} examples to train on, and {shots} shots are asked for; "
            "raise examples.train of its task, or lower shots of the suite"
        )
    return random.Random(seed_of("shots", evaluation)).sample(train, shots)


# --- asking ---------------------------------------------------------------------------------------


def ask(model: Any, cell: Cell, separator: str, stop: str | None = None) -> list[Answer]:
    """The answers to a cell's questions, in order.

    model: lm-eval's (`harness.language_model`). PipelineError where labels cannot be told apart.
    """
    room = model.max_length - cell.new_tokens
    if room < 1:
        raise PipelineError(
            f"{cell.where}: {cell.new_tokens} new tokens leave no room in a context of "
            f"{model.max_length}; lower new_tokens of the task"
        )
    kept = fitting(cell, separator, room, tokens_of(model), model.tokenizer.decode)
    texts, shots = [text for text, _ in kept], [count for _, count in kept]
    labels: Sequence[int | None] = [None] * len(texts)
    if cell.questions[0]["choices"]:
        labels = likeliest(model, cell, texts)
    return [
        Answer(output, label, count)
        for output, label, count in zip(
            generated(model, texts, cell.new_tokens, stop), labels, shots, strict=True
        )
    ]


def tokens_of(model: Any) -> Callable[[list[str]], list[list[int]]]:
    """Texts as the tokens that lm-eval gives its model, with its own mark before them if any."""
    own = {} if model.add_bos_token is None else {"add_special_tokens": model.add_bos_token}
    return lambda texts: model.tokenizer(texts, **own).input_ids if texts else []


def fitting(
    cell: Cell,
    separator: str,
    room: int,
    tokens: Callable[[list[str]], list[list[int]]],
    decode: Callable[[list[int]], str],
) -> list[tuple[str, int]]:
    """Of each question its prompt of at most `room` tokens, and how many examples it has."""
    prompts = cell.prompts(separator)
    found: list[tuple[str, int]] = [(own[-1], 0) for own in prompts]
    waiting = list(range(len(prompts)))
    for first in range(len(cell.shots) + 1):
        lengths = map(len, tokens([prompts[place][first] for place in waiting]))
        longer = []
        for place, length in zip(waiting, lengths, strict=True):
            if length > room:
                longer.append(place)
            else:
                found[place] = (prompts[place][first], len(cell.shots) - first)
        waiting = longer
    for place in waiting:
        text, keep = found[place][0], room
        words = tokens([text])[0]
        while len(tokens([text])[0]) > room:  # a text cut between tokens may make more of them
            text = decode(words[len(words) - keep :])
            keep -= 1
        found[place] = (text, 0)
    fewer = sum(count < len(cell.shots) for _, count in found)
    print(
        f"{cell.where}: {len(found)} questions; {fewer} lost examples, {len(waiting)} the start of "
        f"their text: more than {room} tokens"
    )
    return found


def generated(model: Any, texts: list[str], new_tokens: int, stop: str | None) -> list[str]:
    """Greedy answers to prompts, without the space around them."""
    from lm_eval.api.instance import Instance

    greedy = {"do_sample": False, "max_gen_toks": new_tokens, "until": [stop] if stop else []}
    requests = [
        Instance("generate_until", {}, (text, dict(greedy)), place)
        for place, text in enumerate(texts)
    ]
    return [answer.strip() for answer in model.generate_until(requests)]


def likeliest(model: Any, cell: Cell, texts: list[str]) -> list[int]:
    """Of each question the label whose first token has the highest logit after its prompt.

    The labels of a prompt are one pass with transformers: lm-eval keeps the logits of a context
    whose continuations are one token.
    """
    first = {}
    for choice in {choice for row in cell.questions for choice in row["choices"]}:
        first[choice] = model.tokenizer(choice, add_special_tokens=False).input_ids[0]
    requests = []
    for row, text, ids in zip(cell.questions, texts, tokens_of(model)(texts), strict=True):
        check_labels(row["choices"], first, cell, model.tokenizer)
        requests += [((text, choice), ids, [first[choice]]) for choice in row["choices"]]
    scores = iter(model._loglikelihood_tokens(requests))
    return [int(np.argmax([next(scores)[0] for _ in row["choices"]])) for row in cell.questions]


def check_labels(choices: list[str], first: dict[str, int], cell: Cell, tokenizer: Any) -> None:
    """PipelineError where two labels of a question begin with the same token."""
    known: dict[int, str] = {}
    for choice in choices:
        if (other := known.setdefault(first[choice], choice)) != choice:
            token = tokenizer.decode([first[choice]])
            raise PipelineError(
                f"tasks.{cell.task}.choices: {other!r} and {choice!r} both begin with the token "
                f"{token!r} of this model's tokenizer, which cannot tell them apart"
            )
