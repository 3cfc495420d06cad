"""What figures of instruction runs share: scores by tokens, in panels by evaluation (section 2).

The score on the task tuned for is the win rate against a fixed run of the same model and data set;
that run itself has none (its rows are of the selection "reference") and is in no mean.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from overtrain.figures.drawing.axes import PALETTE, budget_axis, grid
from overtrain.figures.drawing.summaries import stacked, summary

TUNED_FOR, OTHER = PALETTE[2], PALETTE[0]  # green, blue
BASE = {"color": "black", "linestyle": "--", "linewidth": 1.2}
CHECKPOINT = ["model", "checkpoint", "tokens"]
SWEEP = [*CHECKPOINT, "task"]
HALVES = ("even", "odd")  # splits of the prompts, beside "all"


def scores_grid(
    data: pd.DataFrame, settings: dict, draw: Callable[[Axes, pd.DataFrame, dict], pd.DataFrame]
) -> tuple[Figure, pd.DataFrame]:
    """Panels by (model, task), each with its base; `draw(axis, runs, panel)` draws the tuned runs.

    It returns what it drew, a table with the columns of `summary`.
    """
    panels, titles = settings["panels"], settings["titles"]
    rows = [(model, task) for model in settings["models"] for task in settings["tasks"]]
    alone = len(panels) == 1  # of each (model, task): side by side
    figure, axes = grid(1, len(rows)) if alone else grid(len(rows), len(panels))
    drawn = []
    for line, (model, task) in zip(axes.T if alone else axes, rows, strict=True):
        own = data[(data.model == model) & (data.task.isna() | (data.task == task))]
        for axis, panel in zip(line, panels, strict=True):
            mean = panel_mean(own, panel["evaluations"])
            base = summary(mean[mean.selection == "base"].drop_duplicates(CHECKPOINT), ["tokens"])
            table = draw(axis, mean[mean.selection == "last"], panel)
            axis.plot(base.tokens, base["mean"], **BASE)
            budget_axis(axis, own, settings["token_axis"])
            label_panel(axis, panel, settings, several=len(rows) > 1 and f"{titles[model]}, ")
            place = axis.get_subplotspec()
            if place.num1 + place.get_gridspec().ncols < axes.size:  # there is a panel below
                axis.set_xlabel("")
            of = {"model": model, "task": task, "panel": "+".join(panel["evaluations"])}
            drawn += [table.assign(selection="last", **of), base.assign(selection="base", **of)]
    return figure, stacked([table for table in drawn if len(table)])


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


def label_panel(axis: Axes, panel: dict, settings: dict, several: str | bool) -> None:
    own = [settings["evaluations"][name] for name in panel["evaluations"]]
    title = panel.get("title", ", ".join(evaluation["title"] for evaluation in own))
    judged = panel["evaluations"] == ["alpaca"]
    axis.set_title(f"{several or ''}{title}" + f"\njudge: {settings['judge']}" * judged)
    if panel["evaluations"] == ["c4"]:
        axis.set_ylabel(f"{settings['text']} perplexity")
        return
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    if judged:
        axis.set_ylabel("win rate (%)")
        axis.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)  # as good as the reference
    else:
        axis.set_ylabel("accuracy (%)")
