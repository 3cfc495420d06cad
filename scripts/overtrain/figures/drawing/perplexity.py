"""What figures of perplexity by tokens share: changes from the base, and grids of tasks by rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from overtrain.figures.drawing.axes import grid, log_together, token_axis
from overtrain.figures.drawing.summaries import stacked, summary

BASE = "none (base)"  # the dashed line


def rows_of_panels(
    data: pd.DataFrame,
    settings: dict,
    draw: Callable[[Axes, pd.DataFrame, dict], list[pd.DataFrame]],
) -> tuple[Figure, np.ndarray, pd.DataFrame]:
    """The figure, its axes and the table of a grid of rows by tasks, each row on one scale.

    draw(axis, scores, row) draws a panel and returns the tables of what is on it.
    """
    data = data[data.metric == "perplexity"]
    figure, axes = grid(len(settings["rows"]), len(columns(settings)))
    drawn, compared = [], defaultdict(list)
    for axis, row, model, task in panels(axes, settings):
        tables = draw(axis, of_panel(data, row, model, task), row)
        drawn += [table.assign(model=model, task=task, **row) for table in tables]
        compared[str(row)].append((axis, stacked(tables)))
    for together in compared.values():
        log_together(together)
    return figure, axes, stacked(drawn)


def over_seeds(
    runs: pd.DataFrame, base: pd.DataFrame, quantity: str, by: list[str]
) -> pd.DataFrame:
    """Summary of `runs`, or of each run's change from the base of its own checkpoint in `base`."""
    if quantity == "change":
        key = ["model", "checkpoint", "evaluation", "split"]
        reference = base[base.selection == "base"].drop_duplicates(key)
        runs = runs.merge(reference[[*key, "value"]], on=key, suffixes=("", "_base"))
        runs = runs.assign(value=runs.value - runs.value_base)
    return summary(runs, by)


def columns(settings: dict) -> list[tuple[str, str]]:
    """(model, task) of each column of panels."""
    return [(model, task) for model in settings["models"] for task in settings["tasks"]]


def panels(axes: np.ndarray, settings: dict) -> Iterator[tuple[Axes, dict, str, str]]:
    """(axis, row, model, task) of a grid of rows by tasks, labelled at its outside.

    A figure without `rows` has one, an empty one, whose quantity the plot labels.
    """
    several = len(settings["models"]) > 1
    for r, row in enumerate(settings.get("rows", [{}])):
        for c, (model, task) in enumerate(columns(settings)):
            axis = axes[r, c]
            place = axis.get_subplotspec()
            if r == 0:
                title = settings["titles"][task]
                axis.set_title(f"{settings['titles'][model]}, {title}" if several else title)
            if row and place.is_first_col():
                text = settings["text"] if row["evaluation"] == "c4" else "ID"
                axis.set_ylabel(label(row["quantity"], text))
            yield axis, row, model, task
            if place.num1 + place.get_gridspec().ncols < axes.size:  # there is a panel below
                axis.set_xlabel("")


def of_panel(data: pd.DataFrame, row: dict, model: str, task: str) -> pd.DataFrame:
    """The rows of `data` that a panel shows."""
    shown = (data.model == model) & (data.task == task) & (data.evaluation == row["evaluation"])
    return data[shown]


def label(quantity: str, text: str) -> str:
    return f"change in {text} perplexity" if quantity == "change" else f"{text} perplexity"


def dashed_base(axis: Axes, data: pd.DataFrame) -> pd.DataFrame:
    """The unmodified model: dashed, black. Returns its summary by tokens."""
    key = ["model", "checkpoint"]
    base = summary(data[data.selection == "base"].drop_duplicates(key), ["tokens"])
    axis.plot(base.tokens, base["mean"], color="black", linestyle="--", linewidth=1.2)
    token_axis(axis, base.tokens)
    return base
