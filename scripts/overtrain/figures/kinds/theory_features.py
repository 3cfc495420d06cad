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
        simulated = data[data.selection == "simulated"]
        closed = data[data.selection == "closed_form"]
        values = simulated[simulated.metric == "singular_value"]
        shades = Shades(values.features, "feature")
        for (feature, _), own in values.groupby(["features", "seed"]):
            axes[0, 0].plot(own.time, own.value, color=shades.colour(feature), lw=1.2)
        for _, own in closed[closed.metric == "singular_value"].groupby("features"):
            axes[0, 0].plot(own.time, own.value, color="black", ls=":", lw=1)
        losses = simulated[simulated.metric == "loss"]
        for _, own in losses.groupby("seed"):
            axes[0, 1].plot(own.time, own.value, color=BLUE, lw=0.8)
        times = closed[closed.metric == "time"].value
        for axis in axes[0, :2]:
            axis.set(xscale="log", xlabel="time of the gradient flow")
            plain_log_ticks(axis.xaxis, values.time)
            for time in times:
                axis.axvline(time, color="grey", lw=0.6, zorder=0)
        axes[0, 0].set(
            ylabel=r"singular value $\sigma_i(t)$", title="features; $t_n$ grey, $U=V$ dotted"
        )
        axes[0, 1].set(ylabel=PRE_LOSS, yscale="log", title=PRE_LOSS)
        last = (
            values[values.time == values.time.max()].value.min() ** 2
        )  # loss before it is learned
        axes[0, 1].set_ylim(0.1 * last, 2 * losses.value.max())
        drawn = [values, closed, losses]
        for metric, colour, marker in zip(DISTANCES, PALETTE[: len(DISTANCES)], "osx", strict=True):
            own = simulated[simulated.metric == metric]
            style = {"ms": 4, "mfc": "none", "color": colour, "label": DISTANCES[metric]}
            axes[0, 2].plot(own.tau, own.value, marker, **style)
            drawn.append(own)
        bound = closed[closed.metric.isin(DISTANCES)]
        axes[0, 2].plot(bound.tau, bound.value, color="black", ls=":", label=r"$\exp(-C\tau)$")
        axes[0, 2].set(yscale="log", xlabel=r"$\tau$", title="largest distance from the ideal")
        axes[0, 2].set_ylim(bottom=1e-5 * bound.value.min())
        axes[0, 2].legend(loc="lower left", frameon=False, fontsize="small")
        shades.explain(figure, axes)
        return figure, stacked(drawn).dropna(axis="columns", how="all")
