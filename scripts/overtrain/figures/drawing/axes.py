"""The axes that means over seeds are drawn on: colours, bands, tokens, logarithms.

Colours are colour-blind-safe ones: a sequence from dark (small) to light (large) for what has an
order, PALETTE for what has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from overtrain.config.units import tokens_text

PALETTE = sns.color_palette("colorblind")  # for what has no order
PANEL = (2.5, 2.1)  # inches
LABEL = 0.09  # share of a panel's width that a slanted label of an axis takes
UPRIGHT = 0.2  # the same of one that is not slanted
LEGEND_LINES = 8  # more lines than this get a colour bar
ROW = 5  # a single row of more panels than this is wrapped
GAP = 0.25  # between grids side by side, in widths of a panel
HEADING = 0.15  # above each of them, in heights of a panel

Text = Callable[[float], str]  # what a value is called


class Shades:
    """Colours of an ordered quantity, and the legend or colour bar that explains them."""

    def __init__(self, values: Iterable[float], title: str, text: Text = "{:g}".format):
        self.values = sorted(set(values))
        self.title, self.text = title, text
        low, high = (self.values[0], self.values[-1]) if self.values else (1, 10)
        self.norm = LogNorm(low, high if high > low else low * 10)
        self.map = sns.color_palette("viridis", as_cmap=True)

    def colour(self, value: float) -> tuple:
        return self.map(0.9 * self.norm(value))  # the lightest tenth is too pale for a line

    def explain(self, figure: Figure, axes: np.ndarray, dashed: str = "") -> None:
        """Add the legend or colour bar, and what a dashed black line means."""
        base = [plt.Line2D([], [], color="black", linestyle="--", label=dashed)] if dashed else []
        if len(self.values) > LEGEND_LINES:
            shown = ScalarMappable(self.norm, ListedColormap(self.map(np.linspace(0, 0.9, 256))))
            figure.colorbar(shown, ax=axes, label=self.title, aspect=30, pad=0.01)
            if base:
                figure.legend(handles=base, loc="outside lower right", frameon=False)
            return
        handles = self.handles() + base
        figure.legend(handles=handles, title=self.title, loc="outside right center", frameon=False)

    def handles(self) -> list[plt.Line2D]:
        """A line in a legend for each value."""
        return [plt.Line2D([], [], color=self.colour(v), label=self.text(v)) for v in self.values]


def grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, (rows, columns); one long row is wrapped on the page only."""
    lines, across = wrapped(rows, columns)
    figure = page(lines, across)
    axes = figure.subplots(lines, across, squeeze=False)
    for unused in axes.flat[rows * columns :]:
        unused.remove()
    return figure, axes.flat[: rows * columns].reshape(rows, columns)


def grids(
    shapes: list[tuple[int, int]], headings: list[str], longest: int
) -> tuple[Figure, list[np.ndarray]]:
    """A figure of several grids side by side, each under its heading; the axes of each.

    shapes: (rows, columns) of each; longest: panels of a single row, which is wrapped after them.
    """
    sizes = [wrapped(*shape, longest) for shape in shapes]
    lines = max(lines for lines, _ in sizes)
    figure = page(lines + HEADING, sum(across for _, across in sizes) + GAP * (len(sizes) - 1))
    widths = [width for _, across in sizes for width in [*[1.0] * across, GAP]][:-1]
    heights = [0.01, *[1.0] * lines]  # a heading's axis has nothing but its title
    cells = figure.add_gridspec(
        len(heights), len(widths), width_ratios=widths, height_ratios=heights
    )
    found, start = [], 0
    for (rows, columns), (_, across), heading in zip(shapes, sizes, headings, strict=True):
        own = [divmod(i, across) for i in range(rows * columns)]
        axes = [figure.add_subplot(cells[1 + line, start + column]) for line, column in own]
        found.append(np.array(axes).reshape(rows, columns))
        above = figure.add_subplot(cells[0, start : start + across])
        above.set_axis_off()
        above.set_title(heading, fontweight="bold", fontsize="large")
        start += across + 1  # with the gap
    return figure, found


def wrapped(rows: int, columns: int, longest: int = ROW) -> tuple[int, int]:
    """Lines on the page, and panels across it."""
    lines = -(-columns // longest) if rows == 1 else rows
    return lines, -(-rows * columns // lines)


def page(lines: float, across: float) -> Figure:
    """An empty figure that has room for so many panels, and for a legend beside them."""
    width, height = PANEL
    size = (width * across + 1.2, height * lines + 0.5)
    return plt.figure(figsize=size, layout="constrained")


def is_above(axis: Axes, axes: np.ndarray) -> bool:
    """Whether one of the axes stands right below this one."""
    own = axis.get_subplotspec()
    places = [other.get_subplotspec() for other in axes.flat]
    return any(
        place.rowspan.start == own.rowspan.stop and place.colspan == own.colspan for place in places
    )


def lines(axis: Axes, table: pd.DataFrame, by: str, shades: Shades) -> None:
    for value, line in table.groupby(by):
        band(axis, line, shades.colour(value))


def band(
    axis: Axes, table: pd.DataFrame, colour: tuple, x: str = "tokens", marker: str | None = None
) -> None:
    """A line of means with a band of one standard deviation over seeds."""
    axis.plot(table[x], table["mean"], color=colour, linewidth=1.3, marker=marker, markersize=3)
    low, high = table["mean"] - table["std"], table["mean"] + table["std"]
    axis.fill_between(table[x], low, high, color=colour, alpha=0.2, linewidth=0)
    if x == "tokens":
        token_axis(axis, table[x])


def token_axis(
    axis: Axes, tokens: Iterable[float], names: dict[float, str] | None = None, scale: str = "log"
) -> None:
    """Pre-training tokens, a tick at every budget, labelled where there is room.

    names: what a budget is called, where that is not its number of tokens; scale: log or linear.
    """
    ticks = sorted(set(tokens))
    labelled = sorted(apart(ticks, scale))
    texts = {value: (names or {}).get(value, tokens_text(value)) for value in labelled}
    axis.set(xscale=scale, xlabel="pre-training tokens")
    ticks_at(axis.xaxis, ticks, lambda value: texts.get(value, ""))
    crowded = len(labelled) > 1 and len(apart(labelled, scale, UPRIGHT)) < len(labelled)
    axis.tick_params(axis="x", labelrotation=45 if crowded or len(ticks) > 4 else 0)


def budget_axis(axis: Axes, data: pd.DataFrame, scale: str = "log") -> None:
    """Tokens of the released checkpoints in `data`, by their names (Table 1's labels)."""
    names = dict(zip(data.tokens, data.checkpoint, strict=True))
    token_axis(axis, names, names, scale)


def ticks_at(axis: Axis, values: Iterable[float], text: Text = "{:g}".format) -> None:
    """Ticks at these values and no other."""
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_locator(NullLocator())


def apart(values: list[float], scale: str, room: float = LABEL) -> list[float]:
    """Of ascending positive values, those that are `room` of an axis apart, from the largest."""
    places = np.log(values) if scale == "log" else np.array(values)
    kept = [len(values) - 1] if values else []
    for i in reversed(range(len(values) - 1)):
        if places[kept[-1]] - places[i] >= room * (places[-1] - places[0]):
            kept.append(i)
    return [values[i] for i in kept]


def log_values(axis: Axes, table: pd.DataFrame) -> None:
    """A log axis where all values are positive and range over more than a factor of three."""
    log_together([(axis, table)])


def log_together(panels: list[tuple[Axes, pd.DataFrame]]) -> None:
    """The same for panels that are compared: if one of them, and if all are positive, then all."""
    values = [table["mean"].dropna() for _, table in panels]
    some = [own for own in values if len(own)]
    if all(own.min() > 0 for own in some) and any(own.max() > 3 * own.min() for own in some):
        for (axis, _), own in zip(panels, values, strict=True):
            if len(own):
                axis.set_yscale("log")
                plain_log_ticks(axis.yaxis, own)


def plain_log_ticks(axis: Axis, values: pd.Series) -> None:
    """Ticks written as plain numbers, more of them in each decade the fewer decades there are."""
    decades = np.log10(values.max() / values.min())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())
