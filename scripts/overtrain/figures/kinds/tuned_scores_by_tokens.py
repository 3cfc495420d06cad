"""Scores at the learning rate of the best main score (Figs 1, 11, 13, 23 ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from overtrain.figures.families.tuned_runs import OfTunedRuns
from overtrain.figures.kind import Axes, Data, Drawn, Page

if TYPE_CHECKING:
    import numpy as np

Choice = Annotated[
    Literal["all_prompts", "halves"],
    Field(
        description="Which prompts (of images: questions) choose the learning rate: those that are "
        "reported, or the other half"
    ),
]
# By `choice`: for each split of the prompts that chooses a rate, the one that is reported at it.
REPORTED = {"all_prompts": {"all": "all"}, "halves": {"even": "odd", "odd": "even"}}
POINT = {"marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1.3}


class TunedScoresByTokens(OfTunedRuns):
    """A point and its deviation over seeds for each checkpoint, the base dashed.

    choice: "all_prompts" chooses the rate and reports the main score on all prompts, as the paper
    does; "halves" reports each half of them at the rate that the other half chooses, and the mean
    of the two.
    """

    chooses: ClassVar[bool] = True

    plot: Literal["tuned_scores_by_tokens"]
    choice: Choice

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing import scores
        from overtrain.figures.drawing.axes import grid

        figure, axes = grid(*scores.shape(settings))
        drawn = at_chosen_rates(axes, data, settings)
        explain(figure, drawn, [settings])
        return figure, drawn


def at_chosen_rates(axes: np.ndarray, data: Data, settings: dict) -> Data:
    """Draw panels of tuned scores; the table of what is on them."""
    from overtrain.figures.drawing import scores

    data = scores.shown_metrics(data, settings)
    chosen = chosen_rates(data, settings["main"], REPORTED[settings["choice"]])

    def at_chosen(axis: Axes, own: Data, panel: dict) -> Data:
        tuned_for = scores.is_tuned_for(panel, settings)
        return tuned(axis, own, chosen, scores.TUNED_FOR if tuned_for else scores.OTHER)

    return scores.scores_panels(axes, data, settings, at_chosen)


def explain(figure: Page, drawn: Data, parts: list[dict]) -> None:
    """The legend of all panels of a page.

    drawn: what is on it; parts: the settings of each of its parts.
    """
    from overtrain.figures.drawing import scores
    from overtrain.figures.drawing.axes import plt

    axis = figure.axes[0]
    colours = {False: scores.OTHER, True: scores.TUNED_FOR}
    shown = {scores.is_tuned_for(panel, part) for part in parts for panel in part["panels"]}
    names = {True: "fine-tuned,\nwhat it was tuned for", False: "fine-tuned, other tasks"}
    if len(shown) == 1:
        names = dict.fromkeys(shown, "fine-tuned")
    handles = [
        axis.errorbar([], [], [0], color=colours[own], label=names[own], **POINT)
        for own in sorted(shown, reverse=True)
    ]
    if (drawn.selection == "base").any():
        handles += [plt.Line2D([], [], label="base", **scores.BASE)]
    figure.legend(handles=handles, loc="outside right center", frameon=False)


def tuned(axis: Axes, runs: Data, chosen: Data, colour: tuple) -> Data:
    """Mean and deviation over seeds at the chosen rates, with the rates."""
    from overtrain.figures.drawing.scores import HALVES, SWEEP
    from overtrain.figures.drawing.summaries import summary

    own = runs.merge(chosen, on=[*SWEEP, "learning_rate"])
    own = own[~own.split.isin(["all", *HALVES]) | (own.split == own.reported)]
    seeds = own.groupby(["tokens", "seed"], as_index=False).value.mean()
    table = summary(seeds, ["tokens"])
    table["std"] = table["std"].where(table.seeds > 1)  # one seed has no deviation
    rates = own.groupby("tokens").learning_rate.unique()
    table["learning_rates"] = [", ".join(f"{r:g}" for r in sorted(rates[t])) for t in table.tokens]
    axis.errorbar(table.tokens, table["mean"], table["std"], color=colour, **POINT)
    return table


def chosen_rates(data: Data, main: str, reported: dict[str, str]) -> Data:
    """The rate of the best main score, mean over seeds, by checkpoint and task.

    main: the evaluation that is the main one; reported: for each split of its prompts that chooses
    a rate, the split whose score is reported at it (column `reported`). A rate at which a run
    diverged is not chosen.
    """
    from overtrain.figures.drawing.scores import SWEEP
    from overtrain.figures.drawing.summaries import stacked, summary

    tables = []
    for split, other in reported.items():
        own = data[(data.evaluation == main) & (data.split == split) & (data.selection == "last")]
        means = summary(own, [*SWEEP, "learning_rate"]).dropna(subset="mean")
        best = means.loc[means.groupby(SWEEP)["mean"].idxmax(), [*SWEEP, "learning_rate"]]
        tables.append(best.assign(reported=other))
    return stacked(tables)
