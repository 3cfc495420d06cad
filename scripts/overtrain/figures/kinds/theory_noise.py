"""Loss under noise, with the inflection point, and simulation by closed form (Prop. 4.3)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.linear_networks import OfTheory
from overtrain.figures.kind import Data, Drawn


class TheoryNoise(OfTheory):
    """A line for each gamma; rings are inflection points."""

    metrics: ClassVar[set[str]] = {"loss", "inflection"}

    plot: Literal["theory_noise"]
    experiment: Literal["noise"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import Shades, grid, log_values
        from overtrain.figures.drawing.summaries import stacked
        from overtrain.figures.drawing.theory import PRE_LOSS, both, curve, ring

        figure, axes = grid(1, 2)
        axis, share = axes[0]
        shades = Shades(data.gamma, r"noise $\gamma$")
        drawn = []
        for gamma, own in data.groupby("gamma"):
            table = both(own[own.metric == "loss"], ["features"])
            curve(axis, table, shades.colour(gamma))
            scale = {key: table[key] / table.closed_form for key in ("mean", "std", "closed_form")}
            curve(share, table.assign(**scale), shades.colour(gamma))
            inflections = own[own.metric == "inflection"]
            place = inflections[inflections.selection == "closed_form"].value.iloc[0]
            ring(axis, table, place, shades.colour(gamma))
            found = inflections[inflections.selection == "simulated"].value.mean()
            drawn.append(table.assign(gamma=gamma, inflection=place, inflection_simulated=found))
        axis.set(ylabel=f"expected {PRE_LOSS}", title="rings: inflection, closed form")
        table = stacked(drawn)
        log_values(axis, table)
        share.set(ylabel="simulated / closed form", title="mean, s.d. of networks")
        shades.explain(figure, axes)
        return figure, table
