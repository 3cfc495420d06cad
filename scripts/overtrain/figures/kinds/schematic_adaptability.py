"""The blog's Fig 4: why more pre-training ends in a worse perturbed model, without measurements.

With T pre-training tokens, in units of the smallest budget, and s the size of the perturbation,

    base(T) = a T^-alpha,   sensitivity(T, s) = k s^2 T^beta,   perturbed = base + sensitivity.

With alpha > 0 the base improves ever more slowly, with beta > 1 the sensitivity grows ever faster
(both by tokens on a linear axis), so that their sum first falls and then rises. It turns where its
derivative is zero, at

    T*(s) = (alpha a / (beta k s^2))^(1 / (alpha + beta)):

the smaller the perturbation, the later. One that shrinks as T^-q does not turn if beta <= 2q.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from overtrain.config.section import Distinct, Positive, Section
from overtrain.figures.kind import Drawn, Figure

if TYPE_CHECKING:
    import numpy as np

TITLES = {
    "base": "base model:\nimproves ever more slowly",
    "sensitivity": "sensitivity:\ngrows ever faster",
    "perturbed": "perturbed model:\ntheir sum turns",
}


class Adaptability(Section):
    """Constants of the formula above."""

    a: Positive = Field(description="Loss of the base model at the smallest budget")
    alpha: Positive = Field(description="Its exponent in 1/tokens")
    k: Positive = Field(description="Loss broken by a perturbation of size 1 at that budget")
    beta: Annotated[float, Field(gt=1)] = Field(description="Its exponent in tokens")


class SchematicAdaptability(Figure):
    """Base, sensitivity and their sum by tokens, a line for each size of the perturbation."""

    scaled: ClassVar[bool] = False

    plot: Literal["schematic_adaptability"]
    formula: Adaptability
    perturbations: Distinct[Positive] = Field(description="Their sizes, the same at all budgets")
    largest_tokens: Annotated[float, Field(gt=1)] = Field(
        description="A multiple of the smallest budget"
    )

    @staticmethod
    def draw(data: None, settings: dict) -> Drawn:
        import numpy as np
        import pandas as pd

        from overtrain.figures.drawing.axes import Shades, grid, plt
        from overtrain.figures.drawing.summaries import stacked

        formula, end = settings["formula"], settings["largest_tokens"]
        tokens = np.linspace(1, end, 241)
        shades = Shades(settings["perturbations"], "perturbation")
        figure, axes = grid(1, len(TITLES))
        drawn = []
        for axis, (quantity, title) in zip(axes.flat, TITLES.items(), strict=True):
            for size in shades.values[:1] if quantity == "base" else shades.values:
                loss = losses(tokens, size, formula)[quantity]
                colour = "black" if quantity == "base" else shades.colour(size)
                axis.plot(tokens, loss, color=colour, linewidth=1.6)
                turn = turning_point(size, formula)
                if quantity == "perturbed" and 1 < turn < end:
                    lowest = losses(np.array(turn), size, formula)[quantity]
                    axis.plot(turn, lowest, "o", color=colour, markersize=5)
                own = {"quantity": quantity, "tokens": tokens, "loss": loss}
                drawn.append(pd.DataFrame(own).assign(perturbation=size))
            axis.set(
                title=title, xlabel="pre-training tokens", xticks=[], yticks=[], ylim=(0, None)
            )
        axes[0, 0].set_ylabel("loss")
        highest = max(axis.get_ylim()[1] for axis in axes.flat)
        for axis in axes.flat:  # the sum is seen to be one
            axis.set_ylim(-0.03 * highest, highest)
        table = stacked(drawn)
        table.loc[table.quantity == "base", "perturbation"] = np.nan
        names = ["small", "large"] if len(shades.values) == 2 else map("{:g}".format, shades.values)
        handles = [
            plt.Line2D([], [], color=shades.colour(size), label=name)
            for size, name in zip(shades.values, names, strict=True)
        ]
        handles.append(
            plt.Line2D([], [], color="0.4", marker="o", linestyle="", label="lowest loss")
        )
        place = {"loc": "outside right center", "frameon": False}
        figure.legend(handles=handles, title=shades.title, **place)
        return figure, table


def losses(tokens: np.ndarray, size: float, f: dict) -> dict:
    """{"base", "sensitivity", "perturbed"} at each of `tokens` (T,), all (T,).

    f: the constants of the formula, by the names above.
    """
    base = f["a"] * tokens ** -f["alpha"]
    broken = f["k"] * size**2 * tokens ** f["beta"]
    return {"base": base, "sensitivity": broken, "perturbed": base + broken}


def turning_point(size: float, f: dict) -> float:
    """Tokens after which the perturbed model's loss rises."""
    ratio = f["alpha"] * f["a"] / (f["beta"] * f["k"] * size**2)
    return ratio ** (1 / (f["alpha"] + f["beta"]))
