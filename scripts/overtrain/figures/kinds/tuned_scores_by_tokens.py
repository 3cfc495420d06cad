"""Scores at the learning rate of the highest win rate (Figs 1, 2, 11, 13 ...)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from overtrain.figures.families.tuned_runs import OfTunedRuns
from overtrain.figures.kind import Axes, Data, Drawn

# By `choice`: for each split of the prompts that chooses a rate, the one that is reported at it.
REPORTED = {"all_prompts": {"all": "all"}, "halves": {"even": "odd", "odd": "even"}}
POINT = {"marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1.3}


class TunedScoresByTokens(OfTunedRuns):
    """A point and its deviation over seeds for each checkpoint, the base dashed.

    choice: "all_prompts" chooses the rate and reports the win rate on all prompts, as the paper
    does; "halves" reports each half of them at the rate that the other half chooses, and the mean
    of the two.
    """

    chooses: ClassVar[bool] = True

    plot: Literal["tuned_scores_by_tokens"]
    choice: Literal["all_prompts", "halves"] = Field(
        description="Which prompts choose the learning rate: those that are reported, or the "
        "other half"
    )

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing import scores
        from overtrain.figures.drawing.axes import plt

        data = scores.shown_metrics(data, settings)
        chosen = chosen_rates(data, REPORTED[settings["choice"]])

        def at_chosen(axis: Axes, own: Data, panel: dict) -> Data:
            return tuned(axis, own, chosen)

        figure, drawn = scores.scores_grid(data, settings, at_chosen)
        axis = figure.axes[0]
        kinds = {False: scores.OTHER, True: scores.TUNED_FOR}
        alpaca = {"alpaca" in panel["evaluations"] for panel in settings["panels"]}
        names = {True: "fine-tuned,\nwhat it was tuned for", False: "fine-tuned, other tasks"}
        if len(alpaca) == 1:
            names = dict.fromkeys(alpaca, "fine-tuned")
        handles = [
            axis.errorbar([], [], [0], color=kinds[own], label=names[own], **POINT)
            for own in sorted(alpaca, reverse=True)
        ]
        handles += [plt.Line2D([], [], label="base", **scores.BASE)]
        figure.legend(handles=handles, loc="outside right center", frameon=False)
        return figure, drawn


def tuned(axis: Axes, runs: Data, chosen: Data) -> Data:
    """Mean and deviation over seeds at the chosen rates, with the rates."""
    from overtrain.figures.drawing.scores import HALVES, OTHER, SWEEP, TUNED_FOR
    from overtrain.figures.drawing.summaries import summary

    own = runs.merge(chosen, on=[*SWEEP, "learning_rate"])
    own = own[~own.split.isin(["all", *HALVES]) | (own.split == own.reported)]
    seeds = own.groupby(["tokens", "seed"], as_index=False).value.mean()
    table = summary(seeds, ["tokens"])
    table["std"] = table["std"].where(table.seeds > 1)  # one seed has no deviation
    rates = own.groupby("tokens").learning_rate.unique()
    table["learning_rates"] = [", ".join(f"{r:g}" for r in sorted(rates[t])) for t in table.tokens]
    judged = own.split.isin(["all", *HALVES]).any()
    colour = TUNED_FOR if judged else OTHER
    axis.errorbar(table.tokens, table["mean"], table["std"], color=colour, **POINT)
    return table


def chosen_rates(data: Data, reported: dict[str, str]) -> Data:
    """The rate of the highest win rate, mean over seeds, by checkpoint and task.

    reported: for each split of the prompts that chooses a rate, the split whose win rate is
    reported at it (column `reported`). A rate at which a run diverged is not chosen.
    """
    from overtrain.figures.drawing.scores import SWEEP
    from overtrain.figures.drawing.summaries import stacked, summary

    tables = []
    for split, other in reported.items():
        wins = data[
            (data.evaluation == "alpaca") & (data.split == split) & (data.selection == "last")
        ]
        means = summary(wins, [*SWEEP, "learning_rate"]).dropna(subset="mean")
        best = means.loc[means.groupby(SWEEP)["mean"].idxmax(), [*SWEEP, "learning_rate"]]
        tables.append(best.assign(reported=other))
    return stacked(tables)
