"""Rise of the loss under small noise beside its quadratic approximation (appendix D)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from overtrain.figures.families.models import OfCheckpoints
from overtrain.figures.kind import Figure

if TYPE_CHECKING:
    import pandas as pd

    from overtrain.figures.kind import Drawn


class SharpnessByTokens(OfCheckpoints, Figure):
    """Left, the rise by gamma squared, by tokens; right, its share of the approximation."""

    metrics: ClassVar[set[str]] = {"half_curvature", "loss_change"}
    selections: ClassVar[set[str]] = {"noise"}
    evaluation: ClassVar[str] = "sharpness"

    plot: Literal["sharpness_by_tokens"]

    @staticmethod
    def draw(data: pd.DataFrame, settings: dict) -> Drawn:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        from overtrain.figures.drawing.axes import (
            Shades,
            band,
            grid,
            log_values,
            token_axis,
            tokens_text,
        )
        from overtrain.figures.drawing.summaries import stacked, summary

        figure, axes = grid(len(settings["models"]), 2)
        gammas, tokens = (
            Shades(data[data.metric == "loss_change"].gamma, r"noise $\gamma$"),
            Shades(data.tokens, "pre-training tokens", tokens_text),
        )
        drawn = []
        for (left, right), model in zip(axes, settings["models"], strict=True):
            own = data[data.model == model]
            half = summary(own[own.metric == "half_curvature"], ["tokens"])
            change = summary(own[own.metric == "loss_change"], ["gamma", "tokens"])
            drawn += [
                half.assign(model=model, quantity="half_trace"),
                change.assign(model=model, quantity="loss_change"),
            ]
            for gamma, line in change.groupby("gamma"):
                scaled = line.assign(mean=line["mean"] / gamma**2, std=line["std"] / gamma**2)
                band(left, scaled, gammas.colour(gamma))
            left.plot(half.tokens, half["mean"], color="black", ls="--", lw=1.2, zorder=5)
            token_axis(left, half.tokens)
            scaled = change.assign(mean=change["mean"] / change.gamma**2)
            log_values(left, stacked([half, scaled]))
            left.set_ylabel(r"rise of the loss / $\gamma^2$ (nats)")
            for budget, line in change.groupby("tokens"):
                quadratic = half[half.tokens == budget]["mean"].iloc[0] * line.gamma**2
                colour = tokens.colour(budget)
                right.plot(line.gamma, line["mean"] / quadratic, color=colour, marker="o", ms=3)
            right.axhline(1, color="black", ls="--", lw=1.2, zorder=0)
            right.set(xscale="log", xlabel=r"noise $\gamma$", ylim=(0, None))
            right.set_ylabel("rise / quadratic approximation")
            right.xaxis.set_major_locator(FixedLocator(sorted(set(change.gamma))))
            right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            right.xaxis.set_minor_locator(NullLocator())
            right.tick_params(axis="x", labelrotation=45)
            legend = {"title": tokens.title, "fontsize": "small", "frameon": False}
            right.legend(handles=tokens.handles(), **legend)
            left.set_title(settings["titles"][model])
            right.set_title(settings["titles"][model])
        gammas.explain(figure, axes, r"$\frac{1}{2}$Tr$(H\Sigma)$")
        return figure, stacked(drawn)
