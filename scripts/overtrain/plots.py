"""The figures: each function returns the axes it drew and the table of what is on them.

Lines are means over seeds, bands one standard deviation. Pre-training tokens stand on a log axis.
Colours are seaborn's colour-blind-safe ones: a sequence from dark (small) to light (large) for what
has an order.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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

from overtrain.provenance import whole_file

PANEL = (2.5, 2.1)  # inches
LEGEND_LINES = 8  # more lines than this get a colour bar
SEEDS = ["pretraining_seed", "seed"]


def draw(data: pd.DataFrame, settings: dict, pdf: Path) -> None:
    """Write .pdf, .png and .csv of the figure that `settings` describes."""
    sns.set_theme(context="paper", style="ticks", font_scale=0.9)
    plt.rcParams |= {"pdf.fonttype": 42, "svg.hashsalt": "overtrain", "axes.titlesize": "medium"}
    figure, drawn = PLOTS[settings["plot"]](data, settings)
    scale = f" ({settings['scale']})" if settings["scale"] else ""
    figure.suptitle(settings["title"] + scale)
    with whole_file(pdf) as temporary:  # no date in it: the same numbers give the same bytes
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None, "ModDate": None})
    with whole_file(pdf.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=200)
    with whole_file(pdf.with_suffix(".csv")) as temporary:
        drawn.to_csv(temporary, index=False)
    plt.close(figure)


# --- the kinds of plot ----------------------------------------------------------------------------


def noise_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Perplexity, or its change, under Gaussian noise: a line for each gamma (Figs 3, 65)."""
    data = data[data.metric == "perplexity"]
    panels = [(model, q) for model in settings["models"] for q in settings["panels"]]
    figure, axes = grid(1, len(panels))
    shades = Shades(data[data.selection == "noise"].gamma, "noise $\\gamma$")
    drawn = []
    for axis, (model, quantity) in zip(axes[0], panels, strict=True):
        own = data[data.model == model]
        table = over_seeds(own[own.selection == "noise"], own, quantity, ["gamma", "tokens"])
        drawn.append(table.assign(panel=f"{model} {quantity}", quantity=quantity))
        lines(axis, table, "gamma", shades)
        if quantity == "absolute":
            base = dashed_base(axis, own)
            drawn.append(base.assign(panel=f"{model} {quantity}", gamma=0.0, quantity=quantity))
        axis.set_ylabel(label(quantity, settings["text"]))
        axis.set_title(settings["titles"][model])
        log_values(axis, table)
    shades.explain(figure, axes, base="absolute" in settings["panels"])
    return figure, pd.concat(drawn, ignore_index=True)


def learning_rates_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Perplexity, or its change, by learning rate of fine-tuning (Figs 4, 5, 29, 30 ...)."""
    data = scores(data)
    kept = rates_kept(data, settings.get("largest_loss"))
    data = data[data.metric == "perplexity"]
    shades = Shades(kept.learning_rate, "learning rate")
    figure, axes = grid(len(settings["rows"]), len(settings["tasks"]) * len(settings["models"]))
    drawn = []
    for axis, row, model, task in cells(axes, settings):
        own = data[
            (data.model == model) & (data.task == task) & (data.evaluation == row["evaluation"])
        ]
        rates = kept[(kept.model == model) & (kept.task == task)].learning_rate
        tuned = own[(own.selection == "best") & own.learning_rate.isin(rates)]
        table = over_seeds(tuned, own, row["quantity"], ["learning_rate", "tokens"])
        drawn.append(table.assign(model=model, task=task, **row))
        lines(axis, table, "learning_rate", shades)
        if row["quantity"] == "absolute":
            base = dashed_base(axis, own)
            drawn.append(base.assign(model=model, task=task, learning_rate=0.0, **row))
        log_values(axis, table)
    shades.explain(figure, axes, base=any(r["quantity"] == "absolute" for r in settings["rows"]))
    return figure, pd.concat(drawn, ignore_index=True)


def tuned_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Perplexity at the learning rate that is best on validation (Figs 6, 32, 33 ...)."""
    best = best_rates(data)
    data = scores(data)
    data = data[data.metric == "perplexity"]
    figure, axes = grid(len(settings["rows"]), len(settings["tasks"]) * len(settings["models"]))
    drawn = []
    colour = sns.color_palette("colorblind")[0]
    for axis, row, model, task in cells(axes, settings):
        own = data[
            (data.model == model) & (data.task == task) & (data.evaluation == row["evaluation"])
        ]
        chosen = own[own.selection == "best"].merge(
            best, on=["model", "checkpoint", "task", "learning_rate"]
        )
        table = over_seeds(chosen, own, row["quantity"], ["tokens"])
        rates = chosen.groupby("tokens").learning_rate.unique()  # one for each pre-training seed
        table["learning_rates"] = [", ".join(f"{r:g}" for r in rates[t]) for t in table["tokens"]]
        band(axis, table, colour, marker="o")
        drawn.append(table.assign(model=model, task=task, **row))
        log_values(axis, table)
    return figure, pd.concat(drawn, ignore_index=True)


def distance_by_learning_rate(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """L2 distance between pre-trained and fine-tuned weights: a line for each budget (Fig 8)."""
    panels = [(model, task) for model in settings["models"] for task in settings["tasks"]]
    figure, axes = grid(1, len(panels))
    shades = Shades(data.tokens, "pre-training tokens", tokens_text)
    drawn = []
    for axis, (model, task) in zip(axes[0], panels, strict=True):
        own = data[(data.model == model) & (data.task == task)]
        table = summary(own, ["tokens", "learning_rate"])
        drawn.append(table.assign(model=model, task=task))
        for tokens, line in table.groupby("tokens"):
            band(axis, line, shades.colour(tokens), x="learning_rate", marker="o")
        axis.set(xlabel="learning rate", ylabel="L2 distance from the base")
        if table["mean"].notna().any():  # an axis without a point cannot be logarithmic
            axis.set_xscale("log")
        log_values(axis, table)
        axis.set_title(f"{settings['titles'][model]}, {settings['titles'][task]}")
    shades.explain(figure, axes)
    return figure, pd.concat(drawn, ignore_index=True)


PLOTS = {
    "noise_by_tokens": noise_by_tokens,
    "learning_rates_by_tokens": learning_rates_by_tokens,
    "tuned_by_tokens": tuned_by_tokens,
    "distance_by_learning_rate": distance_by_learning_rate,
}


# --- numbers --------------------------------------------------------------------------------------


def scores(data: pd.DataFrame) -> pd.DataFrame:
    """What is reported: held-out web text, and the task's test split (validation only chooses)."""
    return data[data.split.isin(["held_out", "test"])]


def summary(data: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and standard deviation of `value` over seeds; NaN where a run diverged."""
    if data.empty:
        return pd.DataFrame(columns=[*by, "mean", "std", "seeds"], dtype=float)
    groups = data.groupby(by, dropna=False).value
    table = pd.DataFrame(
        {
            "mean": groups.apply(lambda v: v.mean(skipna=False)),
            "std": groups.apply(lambda v: v.std(skipna=False) if len(v) > 1 else 0.0),
            "seeds": groups.size(),
        }
    )
    return table.reset_index()


def over_seeds(
    runs: pd.DataFrame, base: pd.DataFrame, quantity: str, by: list[str]
) -> pd.DataFrame:
    """Summary of `runs`, or of each run's change from the base of its own checkpoint in `base`."""
    if quantity == "change":
        key = ["model", "checkpoint", "evaluation", "split"]
        reference = base[base.selection == "base"].drop_duplicates(key)
        runs = runs.merge(reference[[*key, "value"]], on=key, suffixes=("", "_base"))
        runs = runs.assign(value=runs.value - runs.value_base)
    return summary(runs, by)


def rates_kept(data: pd.DataFrame, largest_loss: float | None) -> pd.DataFrame:
    """(model, task, learning_rate) whose mean loss stays below the cut at all budgets."""
    key = ["model", "task", "learning_rate"]
    runs = data[data.selection == "best"]
    if largest_loss is None:
        return runs[key].drop_duplicates()
    losses = runs[(runs.evaluation == "c4") & (runs.metric == "loss")]
    means = summary(losses, [*key, "tokens"])
    worst = means.groupby(key)["mean"].apply(lambda v: v.max(skipna=False)).reset_index()
    return worst[worst["mean"] < largest_loss][key]


def best_rates(data: pd.DataFrame) -> pd.DataFrame:
    """The learning rate of the lowest mean validation perplexity, for each checkpoint."""
    validation = data[
        (data.evaluation == "id")
        & (data.split == "validation")
        & (data.metric == "perplexity")
        & (data.selection == "best")
    ]
    key = ["model", "checkpoint", "task"]
    means = summary(validation, [*key, "learning_rate"]).dropna(subset="mean")
    return means.loc[means.groupby(key)["mean"].idxmin(), [*key, "learning_rate"]]


# --- axes -----------------------------------------------------------------------------------------


class Shades:
    """Colours of an ordered quantity, and the legend or colour bar that explains them."""

    def __init__(self, values: Iterable[float], title: str, text=lambda value: f"{value:g}"):
        self.values = sorted(set(values))
        self.title, self.text = title, text
        low, high = (self.values[0], self.values[-1]) if self.values else (1, 10)
        self.norm = LogNorm(low, high if high > low else low * 10)
        self.map = sns.color_palette("viridis", as_cmap=True)

    def colour(self, value: float) -> tuple:
        return self.map(0.9 * self.norm(value))  # the lightest tenth is too pale for a line

    def explain(self, figure: Figure, axes: np.ndarray, base: bool = False) -> None:
        """Add the legend or colour bar, with the dashed line of the unmodified model if `base`."""
        if len(self.values) > LEGEND_LINES:
            shown = ScalarMappable(self.norm, ListedColormap(self.map(np.linspace(0, 0.9, 256))))
            figure.colorbar(shown, ax=axes, label=self.title, aspect=30, pad=0.01)
            return
        handles = [
            plt.Line2D([], [], color=self.colour(v), label=self.text(v)) for v in self.values
        ]
        if base:
            handles.append(plt.Line2D([], [], color="black", linestyle="--", label="none (base)"))
        figure.legend(handles=handles, title=self.title, loc="outside right center", frameon=False)


def grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    width, height = PANEL
    return plt.subplots(
        rows,
        columns,
        figsize=(width * columns + 1.2, height * rows + 0.5),
        squeeze=False,
        layout="constrained",
    )


def cells(axes: np.ndarray, settings: dict):
    """(axis, row, model, task) of a grid of rows by tasks, labelled."""
    columns = [(model, task) for model in settings["models"] for task in settings["tasks"]]
    several = len(settings["models"]) > 1
    for r, row in enumerate(settings["rows"]):
        for c, (model, task) in enumerate(columns):
            axis = axes[r, c]
            if r == 0:
                title = settings["titles"][task]
                axis.set_title(f"{settings['titles'][model]}, {title}" if several else title)
            if c == 0:
                text = settings["text"] if row["evaluation"] == "c4" else "ID"
                axis.set_ylabel(label(row["quantity"], text))
            yield axis, row, model, task
            if r < len(settings["rows"]) - 1:
                axis.set_xlabel("")


def label(quantity: str, text: str) -> str:
    return f"change in {text} perplexity" if quantity == "change" else f"{text} perplexity"


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


def dashed_base(axis: Axes, data: pd.DataFrame) -> pd.DataFrame:
    """The unmodified model: dashed, black. Returns its summary by tokens."""
    key = ["model", "checkpoint"]
    base = summary(data[data.selection == "base"].drop_duplicates(key), ["tokens"])
    axis.plot(base.tokens, base["mean"], color="black", linestyle="--", linewidth=1.2)
    token_axis(axis, base.tokens)
    return base


def token_axis(axis: Axes, tokens: Iterable[float]) -> None:
    """Pre-training tokens on a log axis, a tick at every budget."""
    ticks = sorted(set(tokens))
    axis.set(xscale="log", xlabel="pre-training tokens")
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tokens_text(value)))
    axis.tick_params(axis="x", labelrotation=45 if len(ticks) > 4 else 0)


def log_values(axis: Axes, table: pd.DataFrame) -> None:
    """A log axis where all values are positive and range over more than a factor of three."""
    values = table["mean"].dropna()
    if len(values) and values.min() > 0 and values.max() > 3 * values.min():
        axis.set_yscale("log")
        plain_log_ticks(axis.yaxis, values)


def plain_log_ticks(axis: Axis, values: pd.Series) -> None:
    """Ticks written as plain numbers, more of them in each decade the fewer decades there are."""
    decades = np.log10(values.max() / values.min())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def tokens_text(tokens: float) -> str:
    """1680000 -> 1.68M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if tokens >= 0.5 * size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:g}"
