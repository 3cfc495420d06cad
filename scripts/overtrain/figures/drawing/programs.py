"""What figures of docstrings in programs share: shares and losses over seeds, the chosen rate.

The chosen rate has the lowest mean validation loss at the end of training: that is what the blog's
student does, and the loss does not see the docstrings that the model writes.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from overtrain.figures.drawing.summaries import best_rates, summary

SHARE = ("programs", "test", "docstring_share")  # evaluation, split, metric
LOSS = ("id", "validation", "loss")
SWEEP = ["model", "checkpoint", "tokens", "task"]
LEGEND = 0.9  # inches that the names of data sets take more than those of rates
RING = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "color": "black"}
POINT = {"marker": "o", "markersize": 3, "linewidth": 1.3, "capsize": 2}
CHOSEN = {"color": "black", "linewidth": 3.2, "marker": "o", "markersize": 7, "zorder": 1}
BASE = {"color": "black", "linestyle": "--", "linewidth": 1.2}


def of(data: pd.DataFrame, what: tuple[str, str, str], *selections: str) -> pd.DataFrame:
    """The rows of SHARE or LOSS of base, snapshots or last weights."""
    evaluation, split, metric = what
    shown = (data.evaluation == evaluation) & (data.split == split) & (data.metric == metric)
    return data[shown & data.selection.isin(selections)]


def over_seeds(data: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and deviation by (SWEEP, `by`); one seed has no deviation."""
    table = summary(data, [*SWEEP, *by])
    table["std"] = table["std"].where(table.seeds > 1)
    return table


def chosen_rates(data: pd.DataFrame) -> pd.DataFrame:
    """SWEEP and the learning rate of the lowest mean validation loss; none if all diverged."""
    return best_rates(data, metric="loss", selection="last")


def is_chosen(table: pd.DataFrame, chosen: pd.DataFrame) -> pd.Series:
    """Whether a row of `table` is of its checkpoint's and task's chosen rate."""
    key = [*SWEEP, "learning_rate"]
    return pd.MultiIndex.from_frame(table[key]).isin(pd.MultiIndex.from_frame(chosen[key]))


def percent_axis(axis: Axes) -> None:
    """Fractions on the y axis, all of it, written in percent."""
    axis.set(ylim=(-0.05, 1.05), yticks=[0, 0.25, 0.5, 0.75, 1])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))


def dashes(place: int, count: int) -> tuple[int, tuple[int, int]]:
    """The dashes of one of `count` lines such that all can be told where they coincide."""
    return (3 * place, (3, 3 * max(1, count - 1)))


def checkpoints(data: pd.DataFrame, settings: dict) -> list[tuple[str, str]]:
    """(model, checkpoint) of all that is there, models as the settings order them, by tokens."""
    found = data.sort_values("tokens", kind="stable")
    return [
        (model, checkpoint)
        for model in settings["models"]
        for checkpoint in found[found.model == model].checkpoint.unique()
    ]


def title(model: str, checkpoint: str, among: list[tuple[str, str]], titles: dict[str, str]) -> str:
    """Of a checkpoint's panels: its model's, and its own name if that has several."""
    several = [name for name, _ in among].count(model) > 1
    return f"{titles[model]}, {checkpoint}" if several else titles[model]


def rate_text(rate: float) -> str:
    """A learning rate in little room: 3e-5, 1e-4, 2.5e-4."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def explain(figure: Figure, handles: list[Artist], title: str | None = None) -> None:
    """The legend beside the panels, on a page that is wider by what its long names take."""
    figure.set_figwidth(figure.get_figwidth() + LEGEND)
    figure.legend(handles=handles, title=title, loc="outside right center", frameon=False)
