"""Rise of the loss under small noise beside its quadratic approximation (appendix D)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.models import OfCheckpoints
from overtrain.figures.kind import Data, Drawn, Figure


class SharpnessByTokens(OfCheckpoints, Figure):
    """Left, the rise by gamma squared, by tokens; right, its share of the approximation."""

    metrics: ClassVar[set[str]] = {"half_curvature", "loss_change"}
    selections: ClassVar[set[str]] = {"noise"}
    evaluation: ClassVar[str] = "sharpness"

    plot: Literal["sharpness_by_tokens"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import (
            Shades,
            band,
            grid,
            log_values,
            ticks_at,
            token_axis,
            tokens_text,
        )
        from overtrain.figures.drawing.summaries import stacked, summary

        figure, axes = grid(len(settings["models"]), 2)
        gammas = Shades(data[data.metric == "loss_change"].gamma, r"noise $\gamma$")
        tokens = Shades(data.tokens, "pre-training tokens", tokens_text)
        drawn = []
        for (left, right), model in zip(axes, settings["models"], strict=True):
            own = data[data.model == model]
            half = summary(own[own.metric == "half_curvature"], ["tokens"])
            change = summary(own[own.metric == "loss_change"], ["gamma", "tokens"])
            drawn.append(half.assign(model=model, quantity="half_trace"))
            drawn.append(change.assign(model=model, quantity="loss_change"))
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
            ticks_at(right.xaxis, sorted(set(change.gamma)))
            right.tick_params(axis="x", labelrotation=45)
            legend = {"title": tokens.title, "fontsize": "small", "frameon": False}
            right.legend(handles=tokens.handles(), **legend)
            for axis in (left, right):
                axis.set_title(settings["titles"][model])
        gammas.explain(figure, axes, r"$\frac{1}{2}$Tr$(H\Sigma)$")
        return figure, stacked(drawn)
