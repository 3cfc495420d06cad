"""Scores of answers to prompted tasks (`Amuro & Char`, section 4), with bootstrapped errors.

- `rouge_l`: of words, the F measure of ROUGE-L by the package rouge-score, without stemming, which
  is its default and that of Hugging Face's `evaluate`; the mean over questions.
- `accuracy`: of choices, the share of questions whose likeliest label is right.
- `accuracy_generated`: the share whose generated text begins with the right label, in any case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from overtrain.records.measurements import row
from overtrain.records.provenance import seed_of

if TYPE_CHECKING:
    from overtrain.measuring.prompted import Answer, Cell

ANSWERS = pa.schema(
    {
        "evaluation": pa.string(),
        "split": pa.string(),
        "format": pa.string(),
        "question": pa.string(),  # its prompt, without the examples
        "shots": pa.int64(),  # examples that its prompt had room for
        "output": pa.string(),  # generated; null if the run diverged
        "label": pa.string(),  # the likeliest of the choices; null where the answer is words
        "answer": pa.string(),  # the known one
        "credit": pa.float64(),  # ROUGE-L, or whether the label is right
    }
)


class Value(NamedTuple):
    value: float
    stderr: float
    n: int  # questions


@cache
def scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


def rouge_l(answer: str, output: str) -> float:
    """How much of the known answer and the output is one subsequence, in [0, 1]."""
    return scorer().score(answer, output)["rougeL"].fmeasure


def begins_with(output: str, answer: str) -> bool:
    return output.strip().casefold().startswith(answer.strip().casefold())


def metrics_of(cell: Cell) -> tuple[str, ...]:
    """Those of its answers; the first is its score."""
    return ("accuracy", "accuracy_generated") if cell.questions[0]["choices"] else ("rouge_l",)


def credits(cell: Cell, answers: Sequence[Answer]) -> dict[str, np.ndarray]:
    """By metric: how right each answer is, (n,) in [0, 1]."""
    pairs = list(zip(cell.questions, answers, strict=True))
    if metrics_of(cell) == ("rouge_l",):
        return {"rouge_l": np.array([rouge_l(q["answer"], a.output) for q, a in pairs])}
    return {
        "accuracy": np.array([float(a.label == q["label"]) for q, a in pairs]),
        "accuracy_generated": np.array(
            [float(begins_with(a.output, q["answer"])) for q, a in pairs]
        ),
    }


def mean(credit: np.ndarray, resamples: int, seed: int) -> Value:
    """The mean, and the deviation of the means of samples drawn with replacement."""
    draw, n = np.random.default_rng(seed), len(credit)
    means = [credit[draw.integers(n, size=n)].mean() for _ in range(resamples)]
    return Value(
        float(credit.mean()), float(np.std(means, ddof=1)) if resamples > 1 else math.nan, n
    )


def rows_of(
    cell: Cell, found: dict[str, np.ndarray] | None, identity: dict, shots: int, resamples: int
) -> list[dict]:
    """Measurement rows of a cell.

    found: what `credits` says; None of a run that diverged, whose rows are NaN. The same questions
    are drawn for every model: differences between two are of the models alone.
    """
    own = identity | {"shots": shots, "prompt": cell.format}
    own |= {"evaluation": cell.evaluation, "split": cell.split}
    rows = []
    for metric in metrics_of(cell):
        value = Value(math.nan, math.nan, len(cell.questions))
        if found is not None:
            seed = seed_of("bootstrap", cell.evaluation, cell.split, cell.format, metric)
            value = mean(found[metric], resamples, seed)
        rows.append(row(own, metric, *value))
    return rows


def answer_rows(
    cell: Cell, answers: Sequence[Answer] | None, found: dict[str, np.ndarray] | None
) -> list[dict]:
    """Rows of ANSWERS; both None of a run that diverged."""
    rows = []
    for place, question in enumerate(cell.questions):
        own: dict[str, Any] = {"question": cell.prompt(question), "answer": question["answer"]}
        own |= {"evaluation": cell.evaluation, "split": cell.split, "format": cell.format}
        if answers is not None and found is not None:
            said = answers[place]
            label = None if said.label is None else question["choices"][said.label]
            own |= {"output": said.output, "label": label, "shots": said.shots}
            own["credit"] = float(found[metrics_of(cell)[0]][place])
        rows.append(own)
    return rows
