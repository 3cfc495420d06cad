"""The demo shows the phenomenon: a regression test on its measurements, not evidence for the claim.

Runs the part of `make demo` that Fig 3 and the mathematics stand-in need, in a copy.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overtrain import plots_controlled

BUDGETS = ("0.84M", "1.68M", "3.37M", "6.75M", "13.5M")
TASK = "sympy_docs"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def measured(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The measurements of OLMo-10K that the demo profile makes."""
    copy = tmp_path_factory.mktemp("demo") / "copy"
    shutil.copytree(repository, copy, symlinks=True)
    folder = "results/measurements/OLMo-10K"
    targets = [f"{folder}/{budget}/gaussian.parquet" for budget in BUDGETS]
    targets += [f"{folder}/{budget}/{TASK}/default/c4.parquet" for budget in BUDGETS]
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/demo", *targets]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return copy / folder


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
    table = plots_controlled.over_seeds(runs, data, quantity, [line, "tokens"])
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
