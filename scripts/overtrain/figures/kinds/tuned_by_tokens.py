"""Perplexity at the learning rate that is best on validation (Figs 6, 32, 33 ...)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.models import InRows
from overtrain.figures.kind import Axes, Data, Drawn


class TunedByTokens(InRows):
    """One line: the rate is chosen anew for each checkpoint."""

    metrics: ClassVar[set[str]] = {"loss", "perplexity"}
    selections: ClassVar[set[str]] = {"base", "best"}
    modification: ClassVar[str | None] = "tuned"

    plot: Literal["tuned_by_tokens"]

    def evaluations(self) -> list[str]:
        return sorted({*self.in_rows(), "id"})  # which holds the scores that choose the rate

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import PALETTE, band
        from overtrain.figures.drawing.perplexity import over_seeds, rows_of_panels
        from overtrain.figures.drawing.summaries import best_rates, scores

        best = best_rates(data)

        def at_best(axis: Axes, own: Data, row: dict) -> list[Data]:
            chosen = own[own.selection == "best"].merge(best, on=list(best.columns))
            table = over_seeds(chosen, own, row["quantity"], ["tokens"])
            rates = chosen.groupby("tokens").learning_rate.unique()  # one a pre-training seed
            table["learning_rates"] = [", ".join(f"{r:g}" for r in rates[t]) for t in table.tokens]
            band(axis, table, PALETTE[0], marker="o")
            return [table]

        figure, _, drawn = rows_of_panels(scores(data), settings, at_best)
        return figure, drawn
