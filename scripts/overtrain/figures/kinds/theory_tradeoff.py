"""Losses after fine-tuning, the inflection point and the limit, by penalty (Theorem 4.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from overtrain.config.section import Text
from overtrain.figures.families.linear_networks import OfSpectra
from overtrain.figures.kind import Axes, Catalogue, Data, Drawn

if TYPE_CHECKING:
    from overtrain.figures.drawing.axes import Shades


class TheoryTradeoff(OfSpectra):
    """Six panels: (a) by spectrum without penalty, the others of the graded one and the limit."""

    metrics: ClassVar[set[str]] = {"loss", "inflection", "progress"}

    plot: Literal["theory_tradeoff"]
    graded: Text = Field(description="A key of theory.fine_tuning.spectra")

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        self.check_spectrum(f"{where}.graded", self.graded, catalogue)

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import Shades, grid
        from overtrain.figures.drawing.summaries import stacked

        figure, axes = grid(2, 3)
        graded = data[data.task == settings["graded"]]
        # Zero is among the penalties: they are shaded by 1 + lambda.
        penalties = [1 + penalty for penalty in settings["lambdas"]]
        shades = Shades(penalties, r"penalty $\lambda$", lambda value: f"{value - 1:g}")
        panels = {
            "a": by_ratio(axes[0, 0], data, settings),
            "b": by_penalty(axes[0, 1], graded, settings, shades, "pretraining"),
            "c": inflections(axes[0, 2], graded),
            "d": by_penalty(axes[1, 0], graded, settings, shades, "fine_tuning"),
            "e": both_losses(axes[1, 1], graded, settings),
            "f": progress(axes[1, 2], data),
        }
        for axis, panel in zip(axes.flat, panels, strict=True):
            axis.set_title(f"({panel}) {axis.get_title()}")
        shades.explain(figure, axes)
        return figure, stacked([table.assign(panel=panel) for panel, table in panels.items()])


def by_ratio(axis: Axes, data: Data, settings: dict) -> Data:
    """Pre-training loss after fine-tuning without penalty: a line for each alpha."""
    from overtrain.figures.drawing.axes import log_values
    from overtrain.figures.drawing.summaries import stacked
    from overtrain.figures.drawing.theory import PRE_LOSS, both, curve, ratio_shades

    shades = ratio_shades(settings)
    losses = data[(data["lambda"] == 0) & (data.metric == "loss")]
    losses = losses[losses.evaluation == "pretraining"]
    drawn = []
    for name in settings["spectra"]:
        table = both(losses[losses.task == name], ["features"])
        ratio = settings["ratios"][name][0]
        curve(axis, table, shades.colour(ratio))
        end = (table.features.max(), table.closed_form.iloc[-1])
        style = {"textcoords": "offset points", "fontsize": "small"}
        axis.annotate(rf"$\alpha$={ratio:g}", end, (5, -3), **style)
        drawn.append(table.assign(spectrum=name, penalty=0.0))
    axis.set(ylabel=PRE_LOSS, title=r"no penalty, by $\alpha$")
    axis.set(xticks=table.features, xlim=(0.6, 1.3 * end[0]))
    drawn = stacked(drawn)
    log_values(axis, drawn)
    return drawn


def by_penalty(axis: Axes, graded: Data, settings: dict, shades: Shades, evaluation: str) -> Data:
    """A loss after fine-tuning on the graded spectrum: a line for each penalty."""
    from overtrain.figures.drawing.axes import log_values
    from overtrain.figures.drawing.summaries import stacked
    from overtrain.figures.drawing.theory import FT_LOSS, PRE_LOSS, both, curve, ring

    places = both(graded[graded.metric == "inflection"], ["lambda"]).set_index("lambda")
    losses = graded[(graded.metric == "loss") & (graded.evaluation == evaluation)]
    drawn = []
    for penalty in settings["lambdas"]:
        table = both(losses[losses["lambda"] == penalty], ["features"])
        curve(axis, table, shades.colour(1 + penalty))
        if evaluation == "pretraining":
            ring(axis, table, places.closed_form[penalty], shades.colour(1 + penalty))
        drawn.append(table.assign(spectrum=settings["graded"], penalty=penalty))
    drawn = stacked(drawn)
    axis.set_title(r"graded spectrum, by $\lambda$")
    axis.set_ylabel(PRE_LOSS if evaluation == "pretraining" else FT_LOSS)
    if evaluation == "pretraining":
        log_values(axis, drawn)
    return drawn


def inflections(axis: Axes, graded: Data) -> Data:
    """The inflection point by penalty: the closed form on a fine grid, and the simulation's."""
    from matplotlib.ticker import MaxNLocator

    from overtrain.figures.drawing.theory import BLUE, both, points

    own = graded[graded.metric == "inflection"]
    steps = own[own.selection == "closed_form"].drop_duplicates("lambda").sort_values("lambda")
    axis.step(steps["lambda"], steps.value, color=BLUE, where="post", lw=1)
    table = both(own, ["lambda"])
    points(axis, table, "lambda", BLUE)
    axis.set(xlabel=r"penalty $\lambda$", ylabel=r"inflection $r(\lambda)$")
    axis.set_title(r"inflection point $r(\lambda)$")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    fine = steps[["lambda", "value"]].rename(columns={"value": "closed_form"})
    return table.merge(fine, on=["lambda", "closed_form"], how="outer")


def both_losses(axis: Axes, graded: Data, settings: dict) -> Data:
    """Pre-training against fine-tuning loss at the last checkpoint, along the penalty."""
    from overtrain.figures.drawing.summaries import stacked
    from overtrain.figures.drawing.theory import BLUE, FT_LOSS, PRE_LOSS, both

    last = graded[(graded.metric == "loss") & (graded.features == graded.features.max())]
    pre, ft = (both(last[last.evaluation == e], ["lambda"]) for e in ("pretraining", "fine_tuning"))
    axis.plot(ft.closed_form, pre.closed_form, color=BLUE, lw=1)
    axis.errorbar(ft["mean"], pre["mean"], pre["std"], ft["std"], color=BLUE, fmt="o", ms=3)
    for x, y, penalty in zip(ft.closed_form, pre.closed_form, pre["lambda"], strict=True):
        if penalty in settings["lambdas"]:
            style = {"textcoords": "offset points", "fontsize": "small"}
            axis.annotate(rf"$\lambda$={penalty:g}", (x, y), (4, 4), **style)
    axis.set(xlabel=FT_LOSS, ylabel=PRE_LOSS, title="trade-off, all features learned")
    axis.margins(x=0.25, y=0.15)
    return stacked([pre.assign(loss="pretraining"), ft.assign(loss="fine_tuning")])


def progress(axis: Axes, data: Data) -> Data:
    """How far features went towards fine-tuning's by penalty, beside Lemma A.11's print.

    Mean over features and spectra of each network.
    """
    import numpy as np

    from overtrain.figures.drawing.theory import BLUE, both, points

    own = data[data.metric == "progress"]
    networks = own.groupby(["selection", "lambda", "seed"], dropna=False).value.mean()
    table = both(networks.reset_index(), ["lambda"])
    x = np.linspace(0, max(table["lambda"]), 100)
    axis.plot(x, 1 / (1 + x), color=BLUE, lw=1, label=r"$1/(1+\lambda)$")
    axis.plot(x, x / (1 + x), "k:", lw=1, label=r"$\lambda/(1+\lambda)$, as printed")
    points(axis, table, "lambda", BLUE)
    axis.set(xlabel=r"penalty $\lambda$", title="limit of the features")
    axis.set_ylabel(r"share of the way to $\sigma^{\mathrm{ft}}$")
    axis.legend(frameon=False, fontsize="small")
    return table
