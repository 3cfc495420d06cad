"""Plots of section 4 and appendix D: simulations as points, closed forms as lines.

Points are means over networks, their bars one standard deviation.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from overtrain.figures.axes import (
    Shades,
    band,
    grid,
    log_values,
    plain_log_ticks,
    token_axis,
    tokens_text,
)
from overtrain.figures.summaries import summary

LEARNED = "features learned, $n$"
PRE_LOSS, FT_LOSS = "pre-training loss", "fine-tuning loss"
BLUE = sns.color_palette("colorblind")[0]
DISTANCES = {
    "distance_as_printed": "$W_1$, $W_2$ as printed",
    "distance_up_to_rotation": "up to a rotation $Q$",
    "distance_of_product": "product $W_1 W_2$",
}


def theory_features(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Singular values and loss over time; checkpoints' distance from the ideal (Theorem 4.1)."""
    figure, axes = grid(1, 3)
    simulated, closed = data[data.selection == "simulated"], data[data.selection == "closed_form"]
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
    last = values[values.time == values.time.max()].value.min() ** 2  # loss before it is learned
    axes[0, 1].set_ylim(0.1 * last, 2 * losses.value.max())
    drawn = [values, closed, losses]
    colours = sns.color_palette("colorblind")[: len(DISTANCES)]
    for metric, colour, marker in zip(DISTANCES, colours, "osx", strict=True):
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
    return figure, pd.concat(drawn, ignore_index=True).dropna(axis="columns", how="all")


def theory_noise(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Loss under noise, with the inflection point, and simulation by closed form (Prop. 4.3)."""
    figure, axes = grid(1, 2)
    axis, share = axes[0]
    shades = Shades(data.gamma, r"noise $\gamma$")
    drawn = []
    for gamma, own in data.groupby("gamma"):
        table = both(own[own.metric == "loss"], ["features"])
        curve(axis, table, shades.colour(gamma))
        scale = {key: table[key] / table.closed_form for key in ("mean", "std", "closed_form")}
        curve(share, table.assign(**scale), shades.colour(gamma))
        place = own[(own.metric == "inflection") & (own.selection == "closed_form")].value.iloc[0]
        ring(axis, table, place, shades.colour(gamma))
        found = own[(own.metric == "inflection") & (own.selection == "simulated")].value
        drawn.append(table.assign(gamma=gamma, inflection=place, inflection_simulated=found.mean()))
    axis.set(ylabel=f"expected {PRE_LOSS}", title="rings: inflection, closed form")
    drawn = pd.concat(drawn, ignore_index=True)
    log_values(axis, drawn)
    share.set(ylabel="simulated / closed form", title="mean, s.d. of networks")
    shades.explain(figure, axes)
    return figure, drawn


def theory_sensitivity(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Rise of the pre-training loss by fine-tuning: a panel for each penalty (Theorem 4.6)."""
    figure, axes = grid(1, len(settings["lambdas"]))
    shades = ratio_shades(settings)
    drawn = []
    for axis, penalty in zip(axes[0], settings["lambdas"], strict=True):
        start = len(drawn)
        for name in settings["spectra"]:
            own = data[(data.task == name) & (data["lambda"] == penalty)]
            table = both(own, ["features"])
            curve(axis, table, shades.colour(settings["ratios"][name][0]))
            drawn.append(table.assign(spectrum=name, penalty=penalty))
        axis.set_title(rf"$\lambda$ = {penalty:g}")
        log_values(axis, pd.concat(drawn[start:]))
    axes[0, 0].set_ylabel(r"$\Delta_{\mathrm{pre}}(n)$")
    shades.explain(figure, axes)
    return figure, pd.concat(drawn, ignore_index=True)


def theory_tradeoff(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Losses after fine-tuning, the inflection point and the limit, by penalty (Theorem 4.7)."""
    figure, axes = grid(2, 3)
    graded = data[data.task == settings["graded"]]
    shades = Shades([1 + p for p in settings["lambdas"]], r"penalty $\lambda$", minus_one)
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
    drawn = [table.assign(panel=panel) for panel, table in panels.items()]
    return figure, pd.concat(drawn, ignore_index=True)


def by_ratio(axis: Axes, data: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """Pre-training loss after fine-tuning without penalty: a line for each alpha."""
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
    drawn = pd.concat(drawn, ignore_index=True)
    log_values(axis, drawn)
    return drawn


def by_penalty(
    axis: Axes, graded: pd.DataFrame, settings: dict, shades: Shades, evaluation: str
) -> pd.DataFrame:
    """A loss after fine-tuning on the graded spectrum: a line for each penalty."""
    places = both(graded[graded.metric == "inflection"], ["lambda"]).set_index("lambda")
    losses = graded[(graded.metric == "loss") & (graded.evaluation == evaluation)]
    drawn = []
    for penalty in settings["lambdas"]:
        table = both(losses[losses["lambda"] == penalty], ["features"])
        curve(axis, table, shades.colour(1 + penalty))
        if evaluation == "pretraining":
            ring(axis, table, places.closed_form[penalty], shades.colour(1 + penalty))
        drawn.append(table.assign(spectrum=settings["graded"], penalty=penalty))
    drawn = pd.concat(drawn, ignore_index=True)
    axis.set_title(r"graded spectrum, by $\lambda$")
    axis.set_ylabel(PRE_LOSS if evaluation == "pretraining" else FT_LOSS)
    if evaluation == "pretraining":
        log_values(axis, drawn)
    return drawn


def inflections(axis: Axes, graded: pd.DataFrame) -> pd.DataFrame:
    """The inflection point by penalty: the closed form on a fine grid, and the simulation's."""
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


def both_losses(axis: Axes, graded: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """Pre-training against fine-tuning loss at the last checkpoint, along the penalty."""
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
    return pd.concat([pre.assign(loss="pretraining"), ft.assign(loss="fine_tuning")])


def progress(axis: Axes, data: pd.DataFrame) -> pd.DataFrame:
    """How far features went towards fine-tuning's by penalty, beside Lemma A.11's print.

    Mean over features and spectra of each network.
    """
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


def sharpness_by_tokens(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Rise of the loss under small noise beside its quadratic approximation (appendix D)."""
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
        log_values(left, pd.concat([half, change.assign(mean=change["mean"] / change.gamma**2)]))
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
        right.legend(handles=tokens.handles(), title=tokens.title, fontsize="small", frameon=False)
        left.set_title(settings["titles"][model])
        right.set_title(settings["titles"][model])
    gammas.explain(figure, axes, r"$\frac{1}{2}$Tr$(H\Sigma)$")
    return figure, pd.concat(drawn, ignore_index=True)


def loss_along_direction(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Rise of the loss along a direction, near zero and far, and to second order (Figs 9, 10)."""
    tasks = settings.get("tasks", [None])
    places = [(model, task) for model in settings["models"] for task in tasks]
    figure, axes = grid(len(places), 2)
    shades = Shades(data.tokens, "pre-training tokens", tokens_text)
    drawn = []
    for row, (model, task) in zip(axes, places, strict=True):
        own = data[(data.model == model) & (data.task == task if task else data.task.isna())]
        tables = [expansion(line) for _, line in own.groupby("tokens")]
        for axis, panel in zip(row, ("near", "wide"), strict=True):
            shown = [table[table["lambda"].isin(settings[panel])] for table in tables]
            for table in shown:
                colour = shades.colour(table.tokens.iloc[0])
                # Pale and wide, so that the dashes on it are seen where the two agree.
                axis.plot(table["lambda"], table.rise, color=colour, lw=2.5, alpha=0.4)
                axis.plot(table["lambda"], table.rise, "o", ms=2.5, color=colour)
            limits = axis.get_ylim()  # those of the true loss; the other may leave the picture
            for table in shown:
                first = table.iloc[0]
                x = np.linspace(table["lambda"].min(), table["lambda"].max(), 201)
                y = first.slope * x + first.half_curvature * x**2
                axis.plot(x, y, "--", lw=1, color=shades.colour(first.tokens))
            axis.set(ylim=limits, ylabel=r"$L(\theta + \lambda v) - L(\theta)$ (nats)")
            axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            axis.set_xlabel(f"$\\lambda$ ({'0 base, 1 fine-tuned' if task else 'x initial std'})")
            axis.set_title("\n".join(settings["titles"][name] for name in (model, task) if name))
            drawn += [table.assign(model=model, task=task, panel=panel) for table in shown]
    shades.explain(figure, axes, "second order")
    return figure, pd.concat(drawn, ignore_index=True).dropna(axis="columns", how="all")


def expansion(data: pd.DataFrame) -> pd.DataFrame:
    """Loss by lambda of one checkpoint, its rise from lambda 0, and the rise to second order."""
    table = data[data.metric == "loss"].sort_values("lambda")
    table = table[["tokens", "lambda", "value"]].rename(columns={"value": "loss"})
    values = data[data.metric != "loss"].set_index("metric").value
    slope, half = values["slope"], values["half_curvature"]
    x = table["lambda"]
    return table.assign(
        rise=table.loss - table.loss[x == 0].iloc[0],
        second_order=slope * x + half * x**2,
        slope=slope,
        half_curvature=half,
    )


# --- points and lines -----------------------------------------------------------------------------


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


def minus_one(value: float) -> str:
    """Penalties are shaded by 1 + lambda: zero is among them."""
    return f"{value - 1:g}"


def ratio_shades(settings: dict) -> Shades:
    ratios = [settings["ratios"][name][0] for name in settings["spectra"]]
    return Shades(ratios, r"$\sigma^{\mathrm{ft}} / \sigma^{\mathrm{pre}} = \alpha$")
