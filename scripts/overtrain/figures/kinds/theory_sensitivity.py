"""Rise of the pre-training loss by fine-tuning: a panel for each penalty (Theorem 4.6)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.linear_networks import OfSpectra
from overtrain.figures.kind import Data, Drawn


class TheorySensitivity(OfSpectra):
    """A line for each spectrum of fine-tuning."""

    metrics: ClassVar[set[str]] = {"loss_change"}

    plot: Literal["theory_sensitivity"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import grid, log_values
        from overtrain.figures.drawing.summaries import stacked
        from overtrain.figures.drawing.theory import both, curve, ratio_shades

        figure, axes = grid(1, len(settings["lambdas"]))
        shades = ratio_shades(settings)
        drawn: list[Data] = []
        for axis, penalty in zip(axes[0], settings["lambdas"], strict=True):
            start = len(drawn)
            for name in settings["spectra"]:
                own = data[(data.task == name) & (data["lambda"] == penalty)]
                table = both(own, ["features"])
                curve(axis, table, shades.colour(settings["ratios"][name][0]))
                drawn.append(table.assign(spectrum=name, penalty=penalty))
            axis.set_title(rf"$\lambda$ = {penalty:g}")
            log_values(axis, stacked(drawn[start:]))
        axes[0, 0].set_ylabel(r"$\Delta_{\mathrm{pre}}(n)$")
        shades.explain(figure, axes)
        return figure, stacked(drawn)
