"""Plots of section 2: scores of released checkpoints after instruction tuning, by tokens.

The score on the task tuned for is the win rate against a fixed run of the same model and data set;
that run itself has none (its rows are of the selection "reference") and is in no mean.
"""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from overtrain.figures.axes import Shades, budget_names, grid, lines, log_values, plt, token_axis
from overtrain.figures.summaries import summary

PALETTE = sns.color_palette("colorblind")
TUNED_FOR, OTHER = PALETTE[2], PALETTE[0]  # green, blue
BASE = {"color": "black", "linestyle": "--", "linewidth": 1.2}
CHECKPOINT = ["model", "checkpoint", "tokens"]
SWEEP = [*CHECKPOINT, "task"]
REPORTED = {"all_prompts": {"all": "all"}, "halves": {"even": "odd", "odd": "even"}}
HALVES = ("even", "odd")  # splits of the prompts, beside "all"


def tuned_scores_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Scores at the learning rate of the highest win rate (Figs 1, 2, 11, 13 ...).

    choice: "all_prompts" chooses the rate and reports the win rate on all prompts, as the paper
    does; "halves" reports each half of them at the rate that the other half chooses, and the mean
    of the two.
    """
    data = shown_metrics(data, settings)
    chosen = chosen_rates(data, REPORTED[settings["choice"]])
    figure, drawn = scores_grid(data, settings, lambda axis, own, panel: tuned(axis, own, chosen))
    bars = {"yerr": [0], "marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1.3}
    axis = figure.axes[0]
    kinds = {False: OTHER, True: TUNED_FOR}
    alpaca = {"alpaca" in panel["evaluations"] for panel in settings["panels"]}
    names = {True: "fine-tuned,\nwhat it was tuned for", False: "fine-tuned, other tasks"}
    if len(alpaca) == 1:
        names = dict.fromkeys(alpaca, "fine-tuned")
    handles = [
        axis.errorbar([], [], color=kinds[own], label=names[own], **bars)
        for own in sorted(alpaca, reverse=True)
    ]
    handles += [plt.Line2D([], [], label="base", **BASE)]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure, drawn


def rate_scores_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Scores at every learning rate, a line each (Figs 12, 14 ...)."""
    data = shown_metrics(data, settings)
    data = data[~data.split.isin(HALVES)]
    shades = Shades(data[data.selection == "last"].learning_rate, "learning rate")

    def by_rate(axis: Axes, own: pd.DataFrame, panel: dict) -> pd.DataFrame:
        table = summary(own, ["learning_rate", "tokens"])
        lines(axis, table, "learning_rate", shades)
        if panel["evaluations"] == ["c4"]:
            log_values(axis, table)
        return table

    figure, drawn = scores_grid(data, settings, by_rate)
    axes = [axis for axis in figure.axes if axis.get_subplotspec()]
    shades.explain(figure, axes, "none (base)")
    return figure, drawn


def scores_grid(data: pd.DataFrame, settings: dict, draw) -> tuple[Figure, pd.DataFrame]:
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
            names = budget_names(own)
            token_axis(axis, names, names, settings["token_axis"])
            label_panel(axis, panel, settings, several=len(rows) > 1 and f"{titles[model]}, ")
            place = axis.get_subplotspec()
            if place.num1 + place.get_gridspec().ncols < axes.size:  # there is a panel below
                axis.set_xlabel("")
            of = {"model": model, "task": task, "panel": "+".join(panel["evaluations"])}
            drawn += [table.assign(selection="last", **of), base.assign(selection="base", **of)]
    return figure, pd.concat([table for table in drawn if len(table)], ignore_index=True)


def tuned(axis: Axes, runs: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation over seeds at the chosen rates, with the rates."""
    own = runs.merge(chosen, on=[*SWEEP, "learning_rate"])
    own = own[~own.split.isin(["all", *HALVES]) | (own.split == own.reported)]
    seeds = own.groupby(["tokens", "seed"], as_index=False).value.mean()
    table = summary(seeds, ["tokens"])
    table["std"] = table["std"].where(table.seeds > 1)  # one seed has no deviation
    rates = own.groupby("tokens").learning_rate.unique()
    table["learning_rates"] = [", ".join(f"{r:g}" for r in sorted(rates[t])) for t in table.tokens]
    judged = own.split.isin(["all", *HALVES]).any()
    style = {"marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1.3}
    colour = TUNED_FOR if judged else OTHER
    axis.errorbar(table.tokens, table["mean"], table["std"], color=colour, **style)
    return table


# --- numbers ------------------------------------------------------------------------------------


def shown_metrics(data: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """Of each evaluation, the metric that figures show."""
    metric = data.evaluation.map({e: s["metric"] for e, s in settings["evaluations"].items()})
    return data[data.metric == metric]


def chosen_rates(data: pd.DataFrame, reported: dict[str, str]) -> pd.DataFrame:
    """The rate of the highest win rate, mean over seeds, by checkpoint and task.

    reported: for each split of the prompts that chooses a rate, the split whose win rate is
    reported at it (column `reported`). A rate at which a run diverged is not chosen.
    """
    tables = []
    for split, other in reported.items():
        wins = data[
            (data.evaluation == "alpaca") & (data.split == split) & (data.selection == "last")
        ]
        means = summary(wins, [*SWEEP, "learning_rate"]).dropna(subset="mean")
        best = means.loc[means.groupby(SWEEP)["mean"].idxmax(), [*SWEEP, "learning_rate"]]
        tables.append(best.assign(reported=other))
    return pd.concat(tables, ignore_index=True)


def panel_mean(data: pd.DataFrame, evaluations: list[str]) -> pd.DataFrame:
    """Mean over `evaluations` of each run and base; NaN where one of them has no value."""
    own = data[data.evaluation.isin(evaluations)]
    own = own.drop_duplicates([*SWEEP, "selection", "learning_rate", "seed", "split", "evaluation"])
    key = [*SWEEP, "selection", "learning_rate", "seed", "split"]
    groups = own.groupby(key, dropna=False).value
    table = groups.mean().reset_index()  # leaves missing values out
    complete = groups.count().to_numpy() == len(evaluations)
    return table.assign(value=table.value.where(complete))


# --- panels -------------------------------------------------------------------------------------


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
