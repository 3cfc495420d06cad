"""What figures of tuned runs share: scores by tokens, in panels by evaluation (section 2).

The score on the task tuned for is the main one: a win rate, or the mean of vision benchmarks. A win
rate is against a fixed run of the same model and data set; that run itself has none (its rows are
of the selection "reference") and is in no mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from overtrain.figures.drawing.axes import PALETTE, budget_axis, grid, is_above
from overtrain.figures.drawing.summaries import stacked, summary
from overtrain.figures.families.main_scores import MAIN_SCORES, WinRate

TUNED_FOR, OTHER = PALETTE[2], PALETTE[0]  # green, blue
BASE = {"color": "black", "linestyle": "--", "linewidth": 1.2}
CHECKPOINT = ["model", "checkpoint", "tokens"]
SWEEP = [*CHECKPOINT, "task"]
HALVES = ("even", "odd")  # splits of the main score's prompts or questions, beside "all"
Draw = Callable[[Axes, pd.DataFrame, dict], pd.DataFrame]


def scores_grid(data: pd.DataFrame, settings: dict, draw: Draw) -> tuple[Figure, pd.DataFrame]:
    """A page of `scores_panels`, and the table of what is on it."""
    figure, axes = grid(*shape(settings))
    return figure, scores_panels(axes, data, settings, draw)


def scores_panels(axes: np.ndarray, data: pd.DataFrame, settings: dict, draw: Draw) -> pd.DataFrame:
    """Panels by (model, task), each with its base; `draw(axis, runs, panel)` draws the tuned runs.

    It returns what it drew, a table with the columns of `summary`. axes: of the `shape` of the
    settings.
    """
    panels, titles = settings["panels"], settings["titles"]
    rows = of_rows(settings)
    alone, several = len(panels) == 1, len(rows) > 1
    beside = " " if alone else "\n"  # between the model and what is shown: names may be long
    drawn = []
    for line, (model, task) in zip(axes.T if alone else axes, rows, strict=True):
        own = data[(data.model == model) & (data.task.isna() | (data.task == task))]
        for axis, panel in zip(line, panels, strict=True):
            mean = panel_mean(own, panel["evaluations"])
            base = summary(mean[mean.selection == "base"].drop_duplicates(CHECKPOINT), ["tokens"])
            table = draw(axis, mean[mean.selection == "last"], panel)
            axis.plot(base.tokens, base["mean"], **BASE)
            budget_axis(axis, own, settings["token_axis"])
            label_panel(axis, panel, settings, f"{titles[model]},{beside}" if several else "")
            if is_above(axis, axes):
                axis.set_xlabel("")
            of = {"model": model, "task": task, "panel": "+".join(panel["evaluations"])}
            drawn += [table.assign(selection="last", **of), base.assign(selection="base", **of)]
    return stacked([table for table in drawn if len(table)])


def of_rows(settings: dict) -> list[tuple[str, str]]:
    """(model, task) of each row of panels."""
    return [(model, task) for model in settings["models"] for task in settings["tasks"]]


def shape(settings: dict) -> tuple[int, int]:
    """Rows and columns of the panels; a single one of each (model, task) stands beside the next."""
    rows, columns = len(of_rows(settings)), len(settings["panels"])
    return (1, rows) if columns == 1 else (rows, columns)


def shown_metrics(data: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """Of each evaluation, the metric that figures show."""
    metric = data.evaluation.map({e: s["metric"] for e, s in settings["evaluations"].items()})
    return data[data.metric == metric]


def panel_mean(data: pd.DataFrame, evaluations: list[str]) -> pd.DataFrame:
    """Mean over `evaluations` of each run and base; NaN where one of them has no value."""
    own = data[data.evaluation.isin(evaluations)]
    own = own.drop_duplicates([*SWEEP, "selection", "learning_rate", "seed", "split", "evaluation"])
    key = [*SWEEP, "selection", "learning_rate", "seed", "split"]
    groups = own.groupby(key, dropna=False).value
    table = groups.mean().reset_index()  # leaves missing values out
    complete = groups.count().to_numpy() == len(evaluations)
    return table.assign(value=table.value.where(complete))


def metrics_of(panel: dict, settings: dict) -> set[str]:
    return {settings["evaluations"][name]["metric"] for name in panel["evaluations"]}


def is_tuned_for(panel: dict, settings: dict) -> bool:
    """Whether a panel shows the main score, or parts of it; others are of what is not tuned for."""
    return metrics_of(panel, settings) <= MAIN_SCORES[settings["main"]].metrics


def label_panel(axis: Axes, panel: dict, settings: dict, of: str) -> None:
    """of: what the title begins with."""
    own = [settings["evaluations"][name] for name in panel["evaluations"]]
    title = panel.get("title", ", ".join(evaluation["title"] for evaluation in own))
    judged = metrics_of(panel, settings) <= WinRate.metrics
    axis.set_title(f"{of}{title}" + (f"\njudge: {settings['judge']}" if judged else ""))
    if panel["evaluations"] == ["c4"]:
        axis.set_ylabel(f"{settings['text']} perplexity")
        return
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    if judged:
        axis.set_ylabel("win rate (%)")
        axis.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)  # as good as the reference
    else:
        axis.set_ylabel("score (%)" if is_tuned_for(panel, settings) else "accuracy (%)")
