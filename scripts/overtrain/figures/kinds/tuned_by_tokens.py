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
        from overtrain.figures.drawing.axes import PALETTE, band, grid, log_together
        from overtrain.figures.drawing.perplexity import columns, of_panel, over_seeds, panels
        from overtrain.figures.drawing.summaries import best_rates, scores, stacked

        best = best_rates(data)
        data = scores(data)
        data = data[data.metric == "perplexity"]
        figure, axes = grid(len(settings["rows"]), len(columns(settings)))
        drawn = []
        together: dict[str, list[tuple[Axes, Data]]] = {}
        for axis, row, model, task in panels(axes, settings):
            own = of_panel(data, row, model, task)
            chosen = own[own.selection == "best"].merge(best, on=list(best.columns))
            table = over_seeds(chosen, own, row["quantity"], ["tokens"])
            rates = chosen.groupby("tokens").learning_rate.unique()  # one a pre-training seed
            table["learning_rates"] = [", ".join(f"{r:g}" for r in rates[t]) for t in table.tokens]
            band(axis, table, PALETTE[0], marker="o")
            drawn.append(table.assign(model=model, task=task, **row))
            together.setdefault(str(row), []).append((axis, table))
        for compared in together.values():
            log_together(compared)
        return figure, stacked(drawn)
