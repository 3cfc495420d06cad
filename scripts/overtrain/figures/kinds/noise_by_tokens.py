"""Perplexity, or its change, under Gaussian noise: a line for each gamma (Figs 3, 65)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config.section import Distinct
from overtrain.figures.families.models import OfCheckpoints, Quantity
from overtrain.figures.kind import Catalogue, Data, Drawn, Figure


class NoiseByTokens(OfCheckpoints, Figure):
    """Of models trained here and, by their documented initialisation, of released ones."""

    metrics: ClassVar[set[str]] = {"loss", "perplexity"}
    selections: ClassVar[set[str]] = {"base", "noise"}
    modification: ClassVar[str | None] = "noise"
    studies: ClassVar[set[str]] = {"controlled", "released"}
    evaluation: ClassVar[str] = "gaussian"

    plot: Literal["noise_by_tokens"]
    panels: Distinct[Quantity] = Field(description="Panels, left to right")

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        for name in catalogue.names("models", self.models):
            released = catalogue.study_of(name) == "released"
            if released and catalogue.released(name).initialisation is None:
                raise PipelineError(
                    f"{where}.models names {name}, which has no `initialisation` to size the "
                    f"noise by"
                )

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import Shades, budget_axis, grid, lines, log_values
        from overtrain.figures.drawing.perplexity import BASE, dashed_base, label, over_seeds
        from overtrain.figures.drawing.summaries import stacked

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
                budget_axis(axis, own)
        shades.explain(figure, axes, BASE if "absolute" in settings["panels"] else "")
        return figure, stacked(drawn)
