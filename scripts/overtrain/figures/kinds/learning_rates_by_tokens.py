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
        from overtrain.figures.drawing import perplexity
        from overtrain.figures.drawing.axes import Shades, grid, lines, log_together
        from overtrain.figures.drawing.summaries import scores, stacked

        data = scores(data)
        kept = rates_kept(data, settings.get("largest_loss"))
        data = data[data.metric == "perplexity"]
        shades = Shades(kept.learning_rate, "learning rate")
        figure, axes = grid(len(settings["rows"]), len(perplexity.columns(settings)))
        drawn = []
        together: dict[str, list[tuple[Axes, Data]]] = {}
        for axis, row, model, task in perplexity.panels(axes, settings):
            own = perplexity.of_panel(data, row, model, task)
            rates = kept[(kept.model == model) & (kept.task == task)].learning_rate
            tuned = own[(own.selection == "best") & own.learning_rate.isin(rates)]
            table = perplexity.over_seeds(tuned, own, row["quantity"], ["learning_rate", "tokens"])
            drawn.append(table.assign(model=model, task=task, **row))
            lines(axis, table, "learning_rate", shades)
            if row["quantity"] == "absolute":
                base = perplexity.dashed_base(axis, own)
                drawn.append(base.assign(model=model, task=task, learning_rate=0.0, **row))
                table = stacked([table, base])
            together.setdefault(str(row), []).append((axis, table))
        for compared in together.values():
            log_together(compared)
        absolute = any(row["quantity"] == "absolute" for row in settings["rows"])
        shades.explain(figure, axes, perplexity.BASE if absolute else "")
        return figure, stacked(drawn)


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
