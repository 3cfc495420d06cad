"""Fig 7: three regimes of the tuned learning rate, drawn from a formula, without measurements.

With T pre-training tokens and eta the learning rate, both in units of the smallest budget's, the
losses after fine-tuning are what the base model has, what the update breaks, and, on the task
itself, what is left to learn, which a larger rate makes less:

    OOD(T, eta) = a T^-alpha + k_ood eta^2 T^beta_ood
    ID(T, eta)  = a T^-alpha + k_id  eta^2 T^beta_id + c eta^-delta T^-p

The tuned rate minimises ID. Its derivative, 2 k_id eta T^beta_id - delta c eta^(-delta-1) T^-p, is
zero at

    eta*(T) = eta_0 T^-q,   q = (beta_id + p) / (2 + delta),   eta_0^(2+delta) = delta c / (2 k_id),

and c is taken such that eta_0 = 1. Regimes differ in p alone, in how much easier to learn the task
becomes with pre-training. There ID = a T^-alpha + (1 + 2/delta) k_id T^(beta_id - 2q), and OOD has
T^(beta_ood - 2q): either turns up in the end exactly if its exponent is positive. A fixed rate's
OOD always does. With beta_ood > beta_id the three regimes are q = 0; beta_id <= 2q < beta_ood;
and 2q >= beta_ood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from overtrain.config.section import Distinct, Positive, Section, Text
from overtrain.figures.kind import Drawn, Figure

if TYPE_CHECKING:
    import numpy as np

QUANTITIES = {"ood": "OOD loss", "id": "ID loss"}


class Formula(Section):
    """Constants of the formula above."""

    a: Positive = Field(description="Loss of the base model at the smallest budget")
    alpha: Positive = Field(description="Its exponent in 1/tokens")
    k_ood: Positive = Field(description="OOD loss broken by the rate 1 at the smallest budget")
    beta_ood: Positive = Field(description="Its exponent in tokens")
    k_id: Positive = Field(description="ID loss broken, likewise")
    beta_id: Positive = Field(description="Its exponent in tokens")
    delta: Positive = Field(description="Exponent of what is left to learn in 1/learning rate")


class Regime(Section):
    """How what is left to learn falls with pre-training."""

    title: Text
    p: float = Field(description="Exponent of what is left to learn in 1/tokens")


class SchematicRegimes(Figure):
    """OOD (top) and ID loss (bottom) by regime: tuned rate solid, fixed rates dashed."""

    scaled: ClassVar[bool] = False

    plot: Literal["schematic_regimes"]
    formula: Formula
    regimes: list[Regime] = Field(min_length=1)
    learning_rates: Distinct[Positive]
    largest_tokens: Annotated[float, Field(gt=1)] = Field(
        description="A multiple of the smallest budget"
    )

    @staticmethod
    def draw(data: None, settings: dict) -> Drawn:
        import numpy as np
        import pandas as pd

        from overtrain.figures.drawing.axes import Shades, grid, plt
        from overtrain.figures.drawing.summaries import stacked

        formula, regimes = settings["formula"], settings["regimes"]
        tokens = np.geomspace(1, settings["largest_tokens"], 121)
        figure, axes = grid(len(QUANTITIES), len(regimes))
        shades = Shades(settings["learning_rates"], "fixed learning rate")
        drawn = []
        for column, regime in zip(axes.T, regimes, strict=True):
            p = regime["p"]
            curves = [(rate, np.full_like(tokens, rate)) for rate in shades.values]
            for fixed, rates in [*curves, (None, tokens ** -tuned_exponent(p, formula))]:
                values = losses(tokens, rates, p, formula)
                tuned = fixed is None
                colour = "black" if fixed is None else shades.colour(fixed)
                for axis, quantity in zip(column, QUANTITIES, strict=True):
                    axis.plot(tokens, values[quantity], "-" if tuned else "--", color=colour)
                    line = {"tokens": tokens, "learning_rate": rates, "loss": values[quantity]}
                    of = {"regime": regime["title"], "quantity": quantity, "tuned": tuned}
                    drawn.append(pd.DataFrame(line).assign(**of))
            q = tuned_exponent(p, formula)
            column[0].set_title(f"{regime['title']}: $\\eta^* = T^{{{-q or 0:.2g}}}$")
            for axis in column:
                axis.set(xscale="log", xticks=[], yticks=[])
                axis.minorticks_off()
            column[-1].set_xlabel("pre-training tokens $T$")
        table = stacked(drawn)
        highest = table[table.tuned].groupby("quantity").loss.max()
        for row, (quantity, text) in zip(axes, QUANTITIES.items(), strict=True):
            row[0].set_ylabel(text)
            for axis in row:
                axis.set_ylim(0, 1.1 * highest[quantity])  # a fixed rate may leave the panel
        handles = [plt.Line2D([], [], color="black", label="tuned on ID")]
        handles += [h for h in shades.handles() if not h.set_linestyle("--")]
        place = {"loc": "outside right center", "frameon": False}
        figure.legend(handles=handles, title="learning rate", **place)
        return figure, table


def losses(tokens: np.ndarray, rate: np.ndarray | float, p: float, f: dict) -> dict:
    """{"ood", "id"}: loss at each of `tokens` (T,) for a rate, or one at each, () or (T,).

    p: the regime's exponent; f: the constants of the formula, by the names above.
    """
    base = f["a"] * tokens ** -f["alpha"]
    c = 2 * f["k_id"] / f["delta"]
    return {
        "ood": base + f["k_ood"] * rate**2 * tokens ** f["beta_ood"],
        "id": base
        + f["k_id"] * rate**2 * tokens ** f["beta_id"]
        + c * rate ** -f["delta"] * tokens**-p,
    }


def tuned_exponent(p: float, f: dict) -> float:
    """q of the tuned rate T^-q."""
    return (f["beta_id"] + p) / (2 + f["delta"])
