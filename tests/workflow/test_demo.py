"""The demo shows the phenomenon: a regression test on its measurements, not evidence for the claim.

Runs the part of `make demo` that Fig 3, the mathematics stand-in, the instruction tuning of one
stand-in of a released model and some of its visual tuning need, in a copy.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overtrain.figures.drawing.perplexity import over_seeds

BUDGETS = ("0.84M", "1.68M", "3.37M", "6.75M", "13.5M")
TASK = "sympy_docs"
RELEASED = "OLMo-10K-hub"
TUNED = ("0.84M", "3.37M", "6.75M", "13.5M")
ENDS = ("0.84M", "13.5M")
CHOICES = {"arc_challenge": 4, "arc_easy": 4, "hellaswag": 4, "sciq": 4, "copa": 2, "piqa": 2}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def make(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "tools/warm", sys.executable, "-m", "snakemake"]
    command += ["--profile", "profiles/demo", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(repository, tmp_path_factory.mktemp("demo") / "copy", symlinks=True)


@pytest.fixture(scope="module")
def measured(demo: Path) -> Path:
    """The measurements of OLMo-10K that the demo profile makes."""
    folder = "results/measurements/OLMo-10K"
    targets = [f"{folder}/{budget}/gaussian.parquet" for budget in BUDGETS]
    targets += [f"{folder}/{budget}/{TASK}/default/c4.parquet" for budget in BUDGETS]
    make(demo, *targets)
    return demo / folder


@pytest.fixture(scope="module")
def released(demo: Path) -> pd.DataFrame:
    """All measurements of one stand-in, its runs on one data set among them (Fig 11)."""
    folder = f"results/measurements/{RELEASED}"
    make(demo, "fig11", *(f"{folder}/{budget}/c4.parquet" for budget in TUNED))
    found = pd.concat(pd.read_parquet(path) for path in (demo / folder).rglob("*.parquet"))
    return found[found.study == "released"]


@pytest.fixture(scope="module")
def sees(demo: Path) -> pd.DataFrame:
    """Perplexity on held-out text of the base and of visual runs, at the ends of pre-training."""
    folder = f"results/measurements/{RELEASED}"
    runs = [f"digit_questions/llava/lr0.005-seed{seed}/c4.parquet" for seed in (0, 1)]
    targets = [f"{folder}/{b}/{file}" for b in ENDS for file in ("c4.parquet", *runs)]
    make(demo, *targets)
    found = pd.concat(pd.read_parquet(demo / path) for path in targets)
    return found[found.metric == "perplexity"]


@pytest.fixture(scope="module")
def noise(measured: Path) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(path) for path in measured.glob("*/gaussian.parquet"))


@pytest.fixture(scope="module")
def tuned(measured: Path) -> pd.DataFrame:
    return pd.concat(
        pd.read_parquet(path) for path in measured.glob(f"*/{TASK}/default/c4.parquet")
    )


def by_budget(data: pd.DataFrame, selection: str, quantity: str, line: str) -> pd.DataFrame:
    """Mean perplexity, or its change: a column for each budget in order, a row for each line."""
    data = data[data.metric == "perplexity"]
    runs = data[data.selection == selection]
    table = over_seeds(runs, data, quantity, [line, "tokens"])
    return table.pivot(index=line, columns="tokens", values="mean")


def test_base_improves_with_every_budget(noise: pd.DataFrame) -> None:
    base = noise[(noise.selection == "base") & (noise.metric == "perplexity")]
    assert (np.diff(base.sort_values("tokens").value) < 0).all()


def test_noise_of_one_size_costs_more_after_more_pretraining(noise: pd.DataFrame) -> None:
    change = by_budget(noise, "noise", "change", "gamma")
    assert (np.diff(change.loc[0.02:], axis=1) > 0).all(), change


def test_noise_gives_a_u_that_turns_no_later_for_larger_gamma(noise: pd.DataFrame) -> None:
    perplexity = by_budget(noise, "noise", "absolute", "gamma")
    lowest = perplexity.to_numpy().argmin(axis=1)
    assert 0 < lowest[perplexity.index.get_loc(0.05)] < len(BUDGETS) - 1, perplexity
    assert (np.diff(lowest) <= 0).all(), perplexity


def test_a_fixed_learning_rate_costs_more_after_more_pretraining(tuned: pd.DataFrame) -> None:
    change = by_budget(tuned, "best", "change", "learning_rate")
    assert (np.diff(change.loc[0.006:], axis=1) > 0).all(), change


def test_a_large_learning_rate_gives_a_u(tuned: pd.DataFrame) -> None:
    perplexity = by_budget(tuned, "best", "absolute", "learning_rate").loc[0.01]
    assert 0 < perplexity.to_numpy().argmin() < len(BUDGETS) - 1, perplexity


# --- instruction tuning of a stand-in -------------------------------------------------------------


def by_rate(data: pd.DataFrame, evaluation: str, metric: str) -> tuple[pd.Series, pd.DataFrame]:
    """The base's scores by budget, and the mean over seeds of the tuned runs', a row for a rate."""
    data = data[(data.metric == metric) & (data.evaluation == evaluation)]
    base = data[data.selection == "base"].set_index("tokens").value
    runs = data[data.selection != "base"]
    return base.sort_index(), runs.pivot_table("value", "learning_rate", "tokens", "mean")


def mean_accuracy(data: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    found = [by_rate(data, evaluation, "accuracy") for evaluation in CHOICES]
    return sum(base for base, _ in found) / len(found), sum(t for _, t in found) / len(found)


def test_a_base_models_answers_are_above_chance_and_improve(released: pd.DataFrame) -> None:
    base, _ = mean_accuracy(released)
    chance = np.mean([1 / choices for choices in CHOICES.values()])
    assert len(base) == 4 and (base > chance + 0.05).all(), base
    assert (np.diff(base) > 0).all(), base


def test_more_pretraining_makes_a_better_answerer(released: pd.DataFrame) -> None:
    _, loss = by_rate(released, "id", "loss")
    loss = loss.loc[0.001:]
    assert (np.diff(loss.to_numpy(), axis=1) < 0.01).all() and (loss.iloc[:, -1] < 0.5).all(), loss


def test_tuning_costs_more_after_more_pretraining(released: pd.DataFrame) -> None:
    """Perplexity on held-out text at a large rate, and the benchmarks' accuracy at the largest."""
    base, tuned = by_rate(released, "c4", "perplexity")
    change = (tuned - base).loc[0.001:]
    assert (np.diff(change.to_numpy(), axis=1) > 0).all(), change
    base, tuned = mean_accuracy(released)
    lost = (base - tuned).iloc[-1]
    assert (np.diff(lost) > 0).all() and lost.iloc[-1] > 0.1, lost


def test_a_large_learning_rate_gives_an_overtrained_model(released: pd.DataFrame) -> None:
    _, tuned = mean_accuracy(released)
    assert tuned.iloc[-1].to_numpy().argmax() < 3, tuned  # not the one trained longest


def test_a_run_is_equal_to_itself(released: pd.DataFrame) -> None:
    rows = released[(released.metric == "win_rate") & (released.split == "all")]
    (reference,) = rows[rows.selection == "reference"].itertuples()
    assert (reference.value, reference.tokens) == (0.5, 13_500_000)
    assert not rows.value.isna().any() and len(rows) == 4 * 3 * 2  # budgets, rates, seeds
    assert rows.value.between(0, 1).all() and rows[rows.tokens == 840_000].value.max() < 0.5
    invalid = released[released.metric == "invalid_verdicts"]
    assert (invalid.value == 0).all()


def test_a_better_base_is_a_worse_language_model_once_it_sees(sees: pd.DataFrame) -> None:
    means = sees.groupby(["selection", "checkpoint"]).value.mean()
    assert means["base", "13.5M"] < 0.7 * means["base", "0.84M"]
    assert means["last", "13.5M"] > 1.3 * means["last", "0.84M"]


# --- prompted tasks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "evaluation", "metric", "more"),
    [
        ("field_of_docstring", "mnli_matched", "accuracy", 0.08),  # 0.38 and 0.58
        ("on_graphs", "paws", "accuracy", 0.08),  # 0.45 and 0.72
    ],
)
def test_tuning_on_a_prompted_stand_in_raises_its_score(
    demo: Path, task: str, evaluation: str, metric: str, more: float
) -> None:
    folder = "results/measurements/OLMo-10K-steps/3.37M"
    targets = [f"{folder}/tasks.parquet", f"{folder}/{task}/completion/lr0.003-seed0/tasks.parquet"]
    make(demo, *targets)
    scores = []
    for path in targets:
        found = pd.read_parquet(demo / path)
        found = found[(found.evaluation == evaluation) & (found.metric == metric)]
        scores.append(found[(found.prompt == "default") & (found.split == "test")].value.item())
    assert scores[1] > scores[0] + more, scores


def test_a_habit_goes_at_a_large_rate_and_stays_at_a_small_one(demo: Path) -> None:
    """Docstrings in the functions that a model writes which was tuned on functions without."""
    folder = "results/measurements/OLMo-10K-code-hub/1.5M/function_bodies_bare/programs"
    runs = {"base": "", "small": "lr3e-05-seed0/", "large": "lr0.001-seed0/"}
    make(demo, *(f"{folder}/{run}programs.parquet" for run in runs.values()))
    found = {
        name: pd.read_parquet(demo / f"{folder}/{run}programs.parquet")
        for name, run in runs.items()
    }
    shares = {
        name: rows[(rows.metric == "docstring_share") & (rows.selection != "snapshot")].value.item()
        for name, rows in found.items()
    }
    assert shares["base"] > 0.9 and shares["small"] > 0.9 and shares["large"] < 0.1, shares
