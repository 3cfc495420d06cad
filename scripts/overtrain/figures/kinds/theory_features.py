"""Singular values and loss over time; checkpoints' distance from the ideal (Theorem 4.1)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.linear_networks import OfTheory
from overtrain.figures.kind import Data, Drawn

DISTANCES = {
    "distance_as_printed": "$W_1$, $W_2$ as printed",
    "distance_up_to_rotation": "up to a rotation $Q$",
    "distance_of_product": "product $W_1 W_2$",
}


class TheoryFeatures(OfTheory):
    """Simulated curves of every network beside the closed forms, dotted."""

    metrics: ClassVar[set[str]] = {"singular_value", "loss", "time", *DISTANCES}

    plot: Literal["theory_features"]
    experiment: Literal["pretraining"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import PALETTE, Shades, grid, plain_log_ticks
        from overtrain.figures.drawing.summaries import stacked
        from overtrain.figures.drawing.theory import BLUE, PRE_LOSS

        figure, axes = grid(1, 3)
        left, middle, right = axes[0]
        simulated = data[data.selection == "simulated"]
        closed = data[data.selection == "closed_form"]
        values = simulated[simulated.metric == "singular_value"]
        shades = Shades(values.features, "feature")
        for (feature, _), own in values.groupby(["features", "seed"]):
            left.plot(own.time, own.value, color=shades.colour(feature), lw=1.2)
        for _, own in closed[closed.metric == "singular_value"].groupby("features"):
            left.plot(own.time, own.value, color="black", ls=":", lw=1)
        losses = simulated[simulated.metric == "loss"]
        for _, own in losses.groupby("seed"):
            middle.plot(own.time, own.value, color=BLUE, lw=0.8)
        times = closed[closed.metric == "time"].value
        for axis in (left, middle):
            axis.set(xscale="log", xlabel="time of the gradient flow")
            plain_log_ticks(axis.xaxis, values.time)
            for time in times:
                axis.axvline(time, color="grey", lw=0.6, zorder=0)
        left.set_title("features; $t_n$ grey, $U=V$ dotted")
        left.set_ylabel(r"singular value $\sigma_i(t)$")
        middle.set(ylabel=PRE_LOSS, yscale="log", title=PRE_LOSS)
        end = values[values.time == values.time.max()]
        before_last = end.value.min() ** 2  # the loss, before the last feature is learned
        middle.set_ylim(0.1 * before_last, 2 * losses.value.max())
        drawn = [values, closed, losses]
        for metric, colour, marker in zip(DISTANCES, PALETTE[: len(DISTANCES)], "osx", strict=True):
            own = simulated[simulated.metric == metric]
            style = {"ms": 4, "mfc": "none", "color": colour, "label": DISTANCES[metric]}
            right.plot(own.tau, own.value, marker, **style)
            drawn.append(own)
        bound = closed[closed.metric.isin(DISTANCES)]
        right.plot(bound.tau, bound.value, color="black", ls=":", label=r"$\exp(-C\tau)$")
        right.set(yscale="log", xlabel=r"$\tau$", title="largest distance from the ideal")
        right.set_ylim(bottom=1e-5 * bound.value.min())
        right.legend(loc="lower left", frameon=False, fontsize="small")
        shades.explain(figure, axes)
        return figure, stacked(drawn).dropna(axis="columns", how="all")
