"""Scores at every learning rate, a line each (Figs 12, 14, 24 ...)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.tuned_runs import OfTunedRuns
from overtrain.figures.kind import Axes, Data, Drawn


class RateScoresByTokens(OfTunedRuns):
    """Means over seeds and all prompts, the base dashed."""

    chooses: ClassVar[bool] = False

    plot: Literal["rate_scores_by_tokens"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import Shades, lines, log_values
        from overtrain.figures.drawing.scores import HALVES, scores_grid, shown_metrics
        from overtrain.figures.drawing.summaries import summary

        data = shown_metrics(data, settings)
        data = data[~data.split.isin(HALVES)]
        shades = Shades(data[data.selection == "last"].learning_rate, "learning rate")

        def by_rate(axis: Axes, own: Data, panel: dict) -> Data:
            table = summary(own, ["learning_rate", "tokens"])
            lines(axis, table, "learning_rate", shades)
            if panel["evaluations"] == ["c4"]:
                log_values(axis, table)
            return table

        figure, drawn = scores_grid(data, settings, by_rate)
        axes = [axis for axis in figure.axes if axis.get_subplotspec()]
        shades.explain(figure, axes, "none (base)")
        return figure, drawn
