"""What figures of section 4 and appendix A share: simulations as points, closed forms as lines.

Points are means over networks, their bars one standard deviation.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from overtrain.figures.drawing.axes import PALETTE, Shades
from overtrain.figures.drawing.summaries import summary

LEARNED = "features learned, $n$"
PRE_LOSS, FT_LOSS = "pre-training loss", "fine-tuning loss"
BLUE = PALETTE[0]


def both(data: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Summary of the simulated rows with their closed form beside it."""
    table = summary(data[data.selection == "simulated"], by)
    closed = data[data.selection == "closed_form"].drop_duplicates(by)
    closed = closed[[*by, "value"]].rename(columns={"value": "closed_form"})
    return table.merge(closed, on=by, how="left")


def points(axis: Axes, table: pd.DataFrame, x: str, colour: tuple) -> None:
    """Means with bars of one standard deviation."""
    style = {"fmt": "o", "ms": 3, "lw": 0.8, "capsize": 2}
    axis.errorbar(table[x], table["mean"], table["std"], color=colour, **style)


def curve(axis: Axes, table: pd.DataFrame, colour: tuple) -> None:
    """A quantity by features learned: the closed form as a line, the simulation as points."""
    axis.plot(table.features, table.closed_form, color=colour, lw=1)
    points(axis, table, "features", colour)
    axis.set_xlabel(LEARNED)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def ring(axis: Axes, table: pd.DataFrame, place: float, colour: tuple) -> None:
    """Mark the inflection point, unless the loss never rises."""
    if place < table.features.max():
        at = table[table.features == place]
        axis.plot(at.features, at.closed_form, "o", ms=9, mfc="none", mec=colour)


def ratio_shades(settings: dict) -> Shades:
    ratios = [settings["ratios"][name][0] for name in settings["spectra"]]
    return Shades(ratios, r"$\sigma^{\mathrm{ft}} / \sigma^{\mathrm{pre}} = \alpha$")
