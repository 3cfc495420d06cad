"""Means over seeds, and the learning rates they choose: numbers that several modules share."""

from __future__ import annotations

import pandas as pd


def summary(data: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and standard deviation of `value` over seeds; NaN where a run diverged."""
    if data.empty:
        return pd.DataFrame(columns=[*by, "mean", "std", "seeds"], dtype=float)
    groups = data.groupby(by, dropna=False).value
    table = pd.DataFrame(
        {
            "mean": groups.mean(skipna=False),
            "std": groups.std(skipna=False).where(groups.size() > 1, 0.0),
            "seeds": groups.size(),
        }
    )
    return table.reset_index()


def scores(data: pd.DataFrame) -> pd.DataFrame:
    """What is reported: held-out web text, and the task's test split (validation only chooses)."""
    return data[data.split.isin(["held_out", "test"])]


def best_rates(
    data: pd.DataFrame, *of: str, metric: str = "perplexity", selection: str = "best"
) -> pd.DataFrame:
    """The learning rate of the lowest mean validation perplexity, for each checkpoint and task.

    of: further columns, such as "seed", for each of whose values it is chosen anew; metric and
    selection: of the rows that choose, where it is not the perplexity of the best epoch. A rate at
    which a run diverged is not chosen.
    """
    validation = data[
        (data.evaluation == "id")
        & (data.split == "validation")
        & (data.metric == metric)
        & (data.selection == selection)
    ]
    key = ["model", "checkpoint", "tokens", "task", *of]
    means = summary(validation, [*key, "learning_rate"]).dropna(subset="mean")
    return means.loc[means.groupby(key)["mean"].idxmin(), [*key, "learning_rate"]]


def stacked(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table of those of all panels: what a figure's CSV holds."""
    return pd.concat(tables, ignore_index=True)
