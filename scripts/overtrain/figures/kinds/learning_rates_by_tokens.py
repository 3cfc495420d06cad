"""Perplexity, or its change, by learning rate of fine-tuning (Figs 4, 5, 29, 30 ...)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from overtrain.config.section import Positive
from overtrain.figures.families.models import InRows
from overtrain.figures.kind import Axes, Data, Drawn


class LearningRatesByTokens(InRows):
    """A line for each learning rate, the base dashed."""

    metrics: ClassVar[set[str]] = {"loss", "perplexity"}  # the cut is on the loss
    selections: ClassVar[set[str]] = {"base", "best"}
    modification: ClassVar[str | None] = "fixed"

    plot: Literal["learning_rates_by_tokens"]
    largest_loss: Positive | None = Field(
        None,
        description="Learning rates whose pre-training loss in nats reaches this at any budget "
        "are left out",
    )

    def evaluations(self) -> list[str]:
        return sorted({*self.in_rows(), *(["c4"] if self.largest_loss else [])})

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import Shades, lines
        from overtrain.figures.drawing.perplexity import (
            BASE,
            dashed_base,
            over_seeds,
            rows_of_panels,
        )
        from overtrain.figures.drawing.summaries import scores

        data = scores(data)
        kept = rates_kept(data, settings.get("largest_loss"))
        shades = Shades(kept.learning_rate, "learning rate")

        def by_rate(axis: Axes, own: Data, row: dict) -> list[Data]:
            runs = own[own.selection == "best"].merge(kept)
            table = over_seeds(runs, own, row["quantity"], ["learning_rate", "tokens"])
            lines(axis, table, "learning_rate", shades)
            if row["quantity"] == "change":
                return [table]
            return [table, dashed_base(axis, own).assign(learning_rate=0.0)]

        figure, axes, drawn = rows_of_panels(data, settings, by_rate)
        absolute = any(row["quantity"] == "absolute" for row in settings["rows"])
        shades.explain(figure, axes, BASE if absolute else "")
        return figure, drawn


def rates_kept(data: Data, largest_loss: float | None) -> Data:
    """(model, task, learning_rate) whose mean loss stays below the cut at all budgets."""
    from overtrain.figures.drawing.summaries import summary

    key = ["model", "task", "learning_rate"]
    runs = data[data.selection == "best"]
    if largest_loss is None:
        return runs[key].drop_duplicates()
    losses = runs[(runs.evaluation == "c4") & (runs.metric == "loss")]
    means = summary(losses, [*key, "tokens"])
    worst = means.groupby(key)["mean"].apply(lambda v: v.max(skipna=False)).reset_index()
    return worst[worst["mean"] < largest_loss][key]
