"""The learning rate that is best on validation, and where the sweep ends (Figs 34, 39 ...).

Line: `learning_rate`, the one of the tuned figures, chosen on the mean over fine-tuning seeds.
Band: the rates that each seed alone would choose, their geometric `mean` times and by their
geometric standard deviation (`std`, a factor). A best rate at an end of the sweep only bounds
the optimum: its point is hollow and `bound` says which end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from overtrain.figures.families.models import OfSweeps
from overtrain.figures.kind import Axes, Data, Drawn, Figure

if TYPE_CHECKING:
    import numpy as np

UNSWEPT = {"color": "0.85", "linewidth": 0, "zorder": 0}


class OptimalRateByTokens(OfSweeps, Figure):
    """A panel for each task."""

    metrics: ClassVar[set[str]] = {"perplexity"}
    selections: ClassVar[set[str]] = {"best"}
    evaluation: ClassVar[str] = "id"

    plot: Literal["optimal_rate_by_tokens"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        import numpy as np
        from matplotlib.colors import to_hex
        from matplotlib.patches import Patch

        from overtrain.figures.drawing.axes import PALETTE, grid, plt, token_axis
        from overtrain.figures.drawing.perplexity import columns, panels
        from overtrain.figures.drawing.summaries import best_rates, stacked

        chosen, alone = best_rates(data), best_rates(data, "seed")
        data = data[data.selection == "best"]
        figure, axes = grid(1, len(columns(settings)))
        colour = PALETTE[0]
        drawn = []
        for axis, _, model, task in panels(axes, settings):
            best, each, swept = (
                table[(table.model == model) & (table.task == task)]
                for table in (chosen, alone, data)
            )
            rates = np.unique(swept.learning_rate)
            ends = best.learning_rate.map({rates[0]: "lowest", rates[-1]: "highest"})
            table = over_rates(each).assign(
                learning_rate=over_rates(best)["mean"],
                bound=ends.groupby(best.tokens).first().fillna("none").to_numpy(dtype=str),
            )
            drawn.append(table.assign(model=model, task=task))
            rate_axis(axis, rates)
            deviation = [table["mean"] / table["std"], table["mean"] * table["std"]]
            low, high = np.clip(deviation, rates[0], rates[-1])  # no seed chose what was not swept
            axis.fill_between(table.tokens, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.plot(table.tokens, table.learning_rate, color=colour, linewidth=1.3)
            faces = np.where(table.bound == "none", to_hex(colour), "white")
            points = (table.tokens, table.learning_rate)
            axis.scatter(*points, 14, faces, edgecolors=[colour], zorder=3)
            token_axis(axis, swept.tokens)
        point = {"color": colour, "marker": "o", "markersize": 4}
        hollow = point | {"markerfacecolor": "w"}
        figure.supylabel("best learning rate", fontsize=plt.rcParams["axes.labelsize"])
        spread = "best of each seed, mean\n± deviation, as far as swept"
        handles = [
            plt.Line2D([], [], label="best on the mean\nover seeds", **point),
            plt.Line2D([], [], label="the same, at an end\nof the sweep", **hollow),
            Patch(color=colour, alpha=0.2, linewidth=0, label=spread),
            Patch(label="not swept", **UNSWEPT),
        ]
        figure.legend(handles=handles, loc="outside right center", frameon=False)
        return figure, stacked(drawn)


def over_rates(best: Data) -> Data:
    """Geometric mean and standard deviation (a factor) of learning rates, by tokens.

    To 12 digits, so that the mean of equal rates is that rate.
    """
    import numpy as np

    from overtrain.figures.drawing.summaries import summary

    table = summary(best.assign(value=np.log(best.learning_rate)), ["tokens"])
    columns = {name: np.exp(table[name]).map("{:.12g}".format) for name in ("mean", "std")}
    return table.assign(**columns).astype(dict.fromkeys(columns, float))


def rate_axis(axis: Axes, rates: np.ndarray) -> None:
    """Learning rates on a log y axis: a faint line at each of the sweep, grey beyond its ends."""
    from overtrain.figures.drawing.axes import LEGEND_LINES, ticks_at

    low, high = rates[0] / 1.6, rates[-1] * 1.6
    axis.set(yscale="log", ylim=(low, high))
    axis.axhspan(low, rates[0], **UNSWEPT)
    axis.axhspan(rates[-1], high, **UNSWEPT)
    across = {"transform": axis.get_yaxis_transform(), "zorder": 0}
    axis.hlines(rates, 0, 1, color="black", alpha=0.12, linewidth=0.5, **across)
    if len(rates) <= LEGEND_LINES:
        ticks_at(axis.yaxis, rates)
    axis.minorticks_off()
