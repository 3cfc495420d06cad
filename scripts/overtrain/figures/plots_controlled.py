"""Plots of the controlled study: perplexity after noise and fine-tuning, by tokens and rates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from overtrain.figures.axes import (
    LEGEND_LINES,
    Shades,
    band,
    budget_names,
    grid,
    lines,
    log_together,
    log_values,
    plt,
    token_axis,
    tokens_text,
)
from overtrain.figures.summaries import best_rates, scores, summary

BASE = "none (base)"  # the dashed line
UNSWEPT = {"color": "0.85", "linewidth": 0, "zorder": 0}


def noise_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Perplexity, or its change, under Gaussian noise: a line for each gamma (Figs 3, 65)."""
    data = data[data.metric == "perplexity"]
    panels = [(model, q) for model in settings["models"] for q in settings["panels"]]
    figure, axes = grid(1, len(panels))
    shades = Shades(data[data.selection == "noise"].gamma, "noise $\\gamma$")
    drawn = []
    for axis, (model, quantity) in zip(axes[0], panels, strict=True):
        own = data[data.model == model]
        table = over_seeds(own[own.selection == "noise"], own, quantity, ["gamma", "tokens"])
        drawn.append(table.assign(panel=f"{model} {quantity}", quantity=quantity))
        lines(axis, table, "gamma", shades)
        if quantity == "absolute":
            base = dashed_base(axis, own)
            drawn.append(base.assign(panel=f"{model} {quantity}", gamma=0.0, quantity=quantity))
        axis.set_ylabel(label(quantity, settings["text"]))
        axis.set_title(settings["titles"][model])
        log_values(axis, table)
        if set(own.study) == {"released"}:
            token_axis(axis, own.tokens, budget_names(own))
    shades.explain(figure, axes, BASE if "absolute" in settings["panels"] else "")
    return figure, pd.concat(drawn, ignore_index=True)


def learning_rates_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Perplexity, or its change, by learning rate of fine-tuning (Figs 4, 5, 29, 30 ...)."""
    data = scores(data)
    kept = rates_kept(data, settings.get("largest_loss"))
    data = data[data.metric == "perplexity"]
    shades = Shades(kept.learning_rate, "learning rate")
    figure, axes = grid(len(settings["rows"]), len(settings["tasks"]) * len(settings["models"]))
    drawn, rows = [], {}
    for axis, row, model, task in cells(axes, settings):
        own = data[
            (data.model == model) & (data.task == task) & (data.evaluation == row["evaluation"])
        ]
        rates = kept[(kept.model == model) & (kept.task == task)].learning_rate
        tuned = own[(own.selection == "best") & own.learning_rate.isin(rates)]
        table = over_seeds(tuned, own, row["quantity"], ["learning_rate", "tokens"])
        drawn.append(table.assign(model=model, task=task, **row))
        lines(axis, table, "learning_rate", shades)
        if row["quantity"] == "absolute":
            base = dashed_base(axis, own)
            drawn.append(base.assign(model=model, task=task, learning_rate=0.0, **row))
            table = pd.concat([table, base])
        rows.setdefault(str(row), []).append((axis, table))
    for panels in rows.values():
        log_together(panels)
    absolute = any(row["quantity"] == "absolute" for row in settings["rows"])
    shades.explain(figure, axes, BASE if absolute else "")
    return figure, pd.concat(drawn, ignore_index=True)


def tuned_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Perplexity at the learning rate that is best on validation (Figs 6, 32, 33 ...)."""
    best = best_rates(data)
    data = scores(data)
    data = data[data.metric == "perplexity"]
    figure, axes = grid(len(settings["rows"]), len(settings["tasks"]) * len(settings["models"]))
    drawn, rows = [], {}
    colour = sns.color_palette("colorblind")[0]
    for axis, row, model, task in cells(axes, settings):
        own = data[
            (data.model == model) & (data.task == task) & (data.evaluation == row["evaluation"])
        ]
        chosen = own[own.selection == "best"].merge(
            best, on=["model", "checkpoint", "tokens", "task", "learning_rate"]
        )
        table = over_seeds(chosen, own, row["quantity"], ["tokens"])
        rates = chosen.groupby("tokens").learning_rate.unique()  # one for each pre-training seed
        table["learning_rates"] = [", ".join(f"{r:g}" for r in rates[t]) for t in table["tokens"]]
        band(axis, table, colour, marker="o")
        drawn.append(table.assign(model=model, task=task, **row))
        rows.setdefault(str(row), []).append((axis, table))
    for panels in rows.values():
        log_together(panels)
    return figure, pd.concat(drawn, ignore_index=True)


def optimal_rate_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """The learning rate that is best on validation, and where the sweep ends (Figs 34, 39 ...).

    Line: `learning_rate`, the one of the tuned figures, chosen on the mean over fine-tuning seeds.
    Band: the rates that each seed alone would choose, their geometric `mean` times and by their
    geometric standard deviation (`std`, a factor). A best rate at an end of the sweep only bounds
    the optimum: its point is hollow and `bound` says which end.
    """
    chosen, alone, data = best_rates(data), best_rates(data, "seed"), data[data.selection == "best"]
    figure, axes = grid(1, len(settings["tasks"]) * len(settings["models"]))
    colour = sns.color_palette("colorblind")[0]
    drawn = []
    for axis, _, model, task in cells(axes, settings):
        best, each, swept = (
            table[(table.model == model) & (table.task == task)] for table in (chosen, alone, data)
        )
        rates = np.unique(swept.learning_rate)
        ends = best.learning_rate.map({rates[0]: "lowest", rates[-1]: "highest"})
        table = over_rates(each).assign(
            learning_rate=over_rates(best)["mean"],
            bound=ends.groupby(best.tokens).first().fillna("none").to_numpy(dtype=str),
        )
        drawn.append(table.assign(model=model, task=task))
        rate_axis(axis, rates)
        deviation = [table["mean"] / table["std"], table["mean"] * table["std"]]
        low, high = np.clip(deviation, rates[0], rates[-1])  # no seed chose what was not swept
        axis.fill_between(table.tokens, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(table.tokens, table.learning_rate, color=colour, linewidth=1.3)
        faces = np.where(table.bound == "none", to_hex(colour), "white")
        axis.scatter(table.tokens, table.learning_rate, 14, faces, edgecolors=[colour], zorder=3)
        token_axis(axis, swept.tokens)
    point = {"color": colour, "marker": "o", "markersize": 4}
    figure.supylabel("best learning rate", fontsize=plt.rcParams["axes.labelsize"])
    handles = [
        plt.Line2D([], [], label="best on the mean\nover seeds", **point),
        plt.Line2D([], [], label="the same, at an end\nof the sweep", markerfacecolor="w", **point),
        Patch(
            color=colour,
            alpha=0.2,
            linewidth=0,
            label="best of each seed, mean\n± deviation, as far as swept",
        ),
        Patch(label="not swept", **UNSWEPT),
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure, pd.concat(drawn, ignore_index=True)


def distance_by_learning_rate(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """L2 distance between pre-trained and fine-tuned weights: a line for each budget (Fig 8)."""
    panels = [(model, task) for model in settings["models"] for task in settings["tasks"]]
    figure, axes = grid(1, len(panels))
    shades = Shades(data.tokens, "pre-training tokens", tokens_text)
    drawn = []
    for axis, (model, task) in zip(axes[0], panels, strict=True):
        own = data[(data.model == model) & (data.task == task)]
        table = summary(own, ["tokens", "learning_rate"])
        drawn.append(table.assign(model=model, task=task))
        for tokens, line in table.groupby("tokens"):
            band(axis, line, shades.colour(tokens), x="learning_rate", marker="o")
        axis.set(xlabel="learning rate", ylabel="L2 distance from the base")
        if table["mean"].notna().any():  # an axis without a point cannot be logarithmic
            axis.set_xscale("log")
        log_values(axis, table)
        axis.set_title(f"{settings['titles'][model]}, {settings['titles'][task]}")
    shades.explain(figure, axes)
    return figure, pd.concat(drawn, ignore_index=True)


# --- numbers ------------------------------------------------------------------------------------


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


def rates_kept(data: pd.DataFrame, largest_loss: float | None) -> pd.DataFrame:
    """(model, task, learning_rate) whose mean loss stays below the cut at all budgets."""
    key = ["model", "task", "learning_rate"]
    runs = data[data.selection == "best"]
    if largest_loss is None:
        return runs[key].drop_duplicates()
    losses = runs[(runs.evaluation == "c4") & (runs.metric == "loss")]
    means = summary(losses, [*key, "tokens"])
    worst = means.groupby(key)["mean"].apply(lambda v: v.max(skipna=False)).reset_index()
    return worst[worst["mean"] < largest_loss][key]


def over_rates(best: pd.DataFrame) -> pd.DataFrame:
    """Geometric mean and standard deviation (a factor) of learning rates, by tokens.

    To 12 digits, so that the mean of equal rates is that rate.
    """
    table = summary(best.assign(value=np.log(best.learning_rate)), ["tokens"])
    columns = {name: np.exp(table[name]).map("{:.12g}".format) for name in ("mean", "std")}
    return table.assign(**columns).astype(dict.fromkeys(columns, float))


# --- panels -------------------------------------------------------------------------------------


def cells(axes: np.ndarray, settings: dict):
    """(axis, row, model, task) of a grid of rows by tasks, labelled at its outside.

    A figure without `rows` has one, None, whose quantity the plot labels.
    """
    columns = [(model, task) for model in settings["models"] for task in settings["tasks"]]
    several = len(settings["models"]) > 1
    for r, row in enumerate(settings.get("rows", [None])):
        for c, (model, task) in enumerate(columns):
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


def label(quantity: str, text: str) -> str:
    return f"change in {text} perplexity" if quantity == "change" else f"{text} perplexity"


def dashed_base(axis: Axes, data: pd.DataFrame) -> pd.DataFrame:
    """The unmodified model: dashed, black. Returns its summary by tokens."""
    key = ["model", "checkpoint"]
    base = summary(data[data.selection == "base"].drop_duplicates(key), ["tokens"])
    axis.plot(base.tokens, base["mean"], color="black", linestyle="--", linewidth=1.2)
    token_axis(axis, base.tokens)
    return base


def rate_axis(axis: Axes, rates: np.ndarray) -> None:
    """Learning rates on a log y axis: a faint line at each of the sweep, grey beyond its ends."""
    low, high = rates[0] / 1.6, rates[-1] * 1.6
    axis.set(yscale="log", ylim=(low, high))
    axis.axhspan(low, rates[0], **UNSWEPT)
    axis.axhspan(rates[-1], high, **UNSWEPT)
    across = {"transform": axis.get_yaxis_transform(), "zorder": 0}
    axis.hlines(rates, 0, 1, color="black", alpha=0.12, linewidth=0.5, **across)
    if len(rates) <= LEGEND_LINES:
        axis.yaxis.set_major_locator(FixedLocator(rates))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
