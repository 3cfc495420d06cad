"""AlpacaEval's win rates of a sweep's runs against one fixed reference run (the paper's B.3).

Each prompt's two answers are judged in both orders, so that a judge's liking for a place or an
identifier cancels. A run's score on a prompt is the mean of both verdicts: 1 won, 0 lost, 0.5 where
they disagree; equal answers are 0.5 without asking. A prompt with an invalid verdict in either
order is left out of its run's rate: half a pair would bring the liking for a place back. `n` counts
the prompts that are left, `invalid_verdicts` the verdicts that were no answer.

The length-controlled rate is AlpacaEval 2's, without the difficulty of the instructions, which
belongs to its own baseline: a logistic regression of the score on the difference in length, and the
rate that it gives at no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.measuring.verdicts import FIRST, SECOND, TIE, Judge, Question, Verdict, Verdicts
from overtrain.records.measurements import row, write_table

VERDICTS = pa.schema(
    {
        "checkpoint": pa.string(),  # whose sweep it is of
        "run": pa.string(),
        "prompt": pa.int64(),  # its place in the file of prompts
        "order": pa.string(),  # run_first, reference_first
        "verdict": pa.string(),  # run, reference, tie; null if the judge gave none
        "raw": pa.string(),  # what it said; null for equal answers, which it is not asked about
    }
)
ORDERS = ("run_first", "reference_first")
SCORES = {"run": 1.0, "tie": 0.5, "reference": 0.0, None: np.nan}
SPLITS = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}
METRICS = ("win_rate", "length_controlled_win_rate", "invalid_verdicts")


@dataclass(frozen=True)
class Run:
    """One of a sweep: its learning rate and seed, and its answers, None if it diverged."""

    settings: dict
    answers: list[str] | None
    is_reference: bool = False


def judge_sweep(
    prompts: list[dict],
    runs: dict[str, Run],
    reference: list[str] | None,
    judge: Judge,
    path: Path,
    identity: dict,
) -> tuple[list[dict], list[dict]]:
    """Verdicts (rows of VERDICTS) and measurements of every run of a sweep, by the run's name.

    reference: the answers of the reference run, of this sweep or of another; path, identity: where
    valid verdicts are kept, and the columns that the measurements share.
    """
    if reference is None:
        raise PipelineError(
            "the reference run diverged: name another one in evaluations.alpaca.reference, or "
            f"another checkpoint in models.{identity['model']}.reference"
        )
    compared = {
        name: run.answers
        for name, run in runs.items()
        if run.answers is not None and not run.is_reference
    }
    verdicts = [
        {"checkpoint": identity["checkpoint"]} | verdict
        for verdict in compare(prompts, compared, reference, judge, path)
    ]
    of_run: dict[str, list[dict]] = {name: [] for name in compared}
    for verdict in verdicts:
        of_run[verdict["run"]].append(verdict)
    rows = []
    for name, run in runs.items():
        own = identity | run.settings | {"selection": "last"}
        if run.is_reference:
            rows += fixed_rates(0.5, len(prompts), own | {"selection": "reference"})
        elif name in compared:
            rows += win_rates(of_run[name], compared[name], reference, own)
        else:
            rows += fixed_rates(np.nan, len(prompts), own)
    return verdicts, rows


def compare(
    prompts: list[dict],
    answers: dict[str, list[str]],
    reference: list[str],
    judge: Judge,
    path: Path,
) -> list[dict]:
    """Verdicts on every run's answers against the reference's, in both orders.

    They are rows of VERDICTS without the checkpoint.
    prompts: rows with `instruction` and `answer`; answers: by run; path: where valid verdicts are
    kept as they come. A question that several runs share is asked once. PipelineError if the judge
    gives no valid verdict at all.
    """
    kept = Verdicts(path, judge.identity)
    asked: dict[tuple[str, int, str], str] = {}  # keys of questions; none for equal answers
    questions: dict[str, Question] = {}
    for run, outputs in answers.items():
        for place, (prompt, own, other) in enumerate(zip(prompts, outputs, reference, strict=True)):
            for order in ORDERS:
                first, second = (own, other) if order == ORDERS[0] else (other, own)
                question = Question(prompt["instruction"], first, second, prompt["answer"])
                key = "" if own == other else kept.key(question)
                asked[run, place, order] = key
                if key:
                    questions[key] = question
    verdicts = {key: kept.known[key] for key in questions if key in kept.known}
    # In the order of their hash: both orders and all runs mixed, the same mixture each time.
    pending = sorted(questions.keys() - verdicts.keys())
    try:
        with tqdm(desc="verdicts", total=len(questions), initial=len(verdicts)) as bar:
            for place, verdict in judge.ask([questions[key] for key in pending]):
                verdicts[pending[place]] = verdict
                kept.add(pending[place], verdict)
                bar.update()
    finally:
        kept.close()
    if verdicts and all(verdict.choice is None for verdict in verdicts.values()):
        raw = next(iter(verdicts.values())).raw
        raise PipelineError(
            f"none of the judge's {len(verdicts)} answers is a verdict; one is {raw[:80]!r}"
        )
    return [
        {"run": run, "prompt": place, "order": order} | read(verdicts.get(key), order)
        for (run, place, order), key in asked.items()
    ]


def read(verdict: Verdict | None, order: str) -> dict:
    """Who won; without a question, nobody."""
    if verdict is None:
        return {"verdict": "tie", "raw": None}
    winners = ("run", "reference") if order == ORDERS[0] else ("reference", "run")
    names = dict(zip((FIRST, SECOND), winners, strict=True)) | {TIE: "tie", None: None}
    return {"verdict": names[verdict.choice], "raw": verdict.raw}


def win_rates(verdicts: list[dict], own: list[str], other: list[str], identity: dict) -> list[dict]:
    """Measurements of one run: its rates and invalid verdicts, on all prompts and each half.

    verdicts: the run's; own, other: its answers and the reference's. PipelineError if a split has
    no prompt with two valid verdicts.
    """
    scores = np.full((len(own), 2), np.nan)
    for v in verdicts:
        scores[v["prompt"], ORDERS.index(v["order"])] = SCORES[v["verdict"]]
    longer = np.array([len(a) - len(b) for a, b in zip(own, other, strict=True)], float)
    rows = []
    for split, places in SPLITS.items():
        score = scores[places].mean(axis=1)  # NaN with one invalid verdict
        judged = ~np.isnan(score)
        n = int(judged.sum())
        if not n:
            raise PipelineError(
                f"the run at learning rate {identity['learning_rate']:g}, seed {identity['seed']}: "
                f"no prompt of the split {split!r} has two valid verdicts"
            )
        score, lengths = score[judged], longer[places][judged]
        error = score.std(ddof=1) / n**0.5 if n > 1 else np.nan
        invalid = float(np.isnan(scores[places]).sum())
        own_identity = identity | {"evaluation": "alpaca", "split": split}
        rows += [
            row(own_identity, "win_rate", float(score.mean()), float(error), n),
            row(own_identity, "length_controlled_win_rate", *length_controlled(score, lengths), n),
            row(own_identity, "invalid_verdicts", invalid, n=n),
        ]
    return rows


def fixed_rates(value: float, count: int, identity: dict) -> list[dict]:
    """Measurements that need no judge: of the reference run (0.5) and of diverged ones (NaN)."""
    diverged = np.isnan(value)
    values = dict.fromkeys(METRICS, value) | {"invalid_verdicts": value if diverged else 0.0}
    return [
        row(
            identity | {"evaluation": "alpaca", "split": split},
            metric,
            values[metric],
            np.nan if diverged else 0.0,
            0 if diverged else len(range(count)[places]),
        )
        for split, places in SPLITS.items()
        for metric in METRICS
    ]


def length_controlled(scores: np.ndarray, longer: np.ndarray) -> tuple[float, float]:
    """The win rate at equal length, and its standard error.

    scores: (n,) in 0, 0.5, 1; longer: (n,) characters that the run's answer has more. The slope has
    the prior of one observation half won (a log-F(1, 1)), without which it has no estimate where
    length alone decides; the intercept has none.
    """
    if scores.min() == scores.max():  # no intercept is best; there is nothing to control for
        return float(scores[0]), 0.0
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    spread = longer.std(ddof=1)
    x = np.tanh(longer / spread) if spread > 0 else np.zeros(len(longer))
    design = np.vstack([np.column_stack([np.ones(len(x)), x]), [0.0, 1.0]])
    fit = GLM(np.append(scores, 0.5), design, family=Binomial()).fit(scale="X2")
    rate = 1 / (1 + np.exp(-fit.params[0]))
    return float(rate), float(rate * (1 - rate) * fit.bse[0])


def write_verdicts(rows: list[dict], path: Path, origin: dict) -> None:
    write_table(pa.Table.from_pylist(rows, VERDICTS), path, origin)
