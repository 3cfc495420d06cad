"""L2 distance between pre-trained and fine-tuned weights: a line for each budget (Fig 8)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.models import OfSweeps
from overtrain.figures.kind import Data, Drawn, Figure


class DistanceByLearningRate(OfSweeps, Figure):
    """A panel for each task."""

    metrics: ClassVar[set[str]] = {"l2_distance"}
    selections: ClassVar[set[str]] = {"best"}
    evaluation: ClassVar[str] = "training"

    plot: Literal["distance_by_learning_rate"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import Shades, band, grid, log_values, tokens_text
        from overtrain.figures.drawing.perplexity import columns
        from overtrain.figures.drawing.summaries import stacked, summary

        panels = columns(settings)
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
        return figure, stacked(drawn)
