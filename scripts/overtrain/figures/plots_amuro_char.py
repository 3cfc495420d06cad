"""Plots of "Amuro & Char": few-shot scores by checkpoint, before and after fine-tuning.

Checkpoints stand at equal distances. Bars are one standard error over an evaluation's examples,
where it is known. Circles are published numbers, squares (or hatched bars) ours.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from overtrain.figures.axes import grid, plt
from overtrain.studies.amuro_char import mean_gains, ratios, with_base

MARKERS = {"published": "o", "ours": "s"}
HATCHES = {"published": None, "ours": "//"}
METRICS = {"accuracy": "accuracy", "rouge_l": "ROUGE-L"}
COLUMNS = 4  # of panels
TUNED, BASE = sns.color_palette("colorblind")[:2]  # blue and orange, as in the paper


def base_by_checkpoint(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """The base model's scores: a panel for each group, a line for each evaluation (Fig 2)."""
    figure, axes = grid(1, len(settings["groups"]))
    figure.set_size_inches(1.7 * figure.get_size_inches()[0], 1.2 * figure.get_size_inches()[1])
    drawn = []
    for axis, group in zip(axes[0], settings["groups"], strict=True):
        names = [cell["evaluation"] for cell in group["cells"]]
        for name, colour in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
            own = data[(data.evaluation == name) & (data.selection == "base")]
            style = {"color": colour, "label": settings["evaluations"][name]["title"]}
            drawn.append(line(axis, own, settings, **style).assign(group=group["title"]))
        axis.set(ylabel="score", title=group["title"])
        axis.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure, pd.concat(drawn, ignore_index=True)


def scores_by_checkpoint(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Fine-tuned (solid) and base (dashed) scores: a panel for each cell (Figs 3, 5, 6, 8-13)."""
    prompts = settings.get("prompts", ["default"])
    cells = settings["cells"]
    columns = min(COLUMNS, len(cells))
    figure, axes = grid(-(-len(cells) // columns), columns)
    colours = sns.color_palette("colorblind", len(prompts))
    drawn = []
    for axis, cell in zip(axes.flat, cells, strict=False):
        own = data[data.evaluation == cell["evaluation"]]
        for prompt, colour in zip(prompts, colours, strict=True):
            single = len(prompts) == 1
            rows = own[own.prompt == prompt]
            base = rows[rows.selection == "base"]
            tuned = rows[(rows.selection == "last") & (rows.task == cell["task"])]
            drawn.append(line(axis, base, settings, color=BASE if single else colour, ls="--"))
            drawn.append(line(axis, tuned, settings, color=TUNED if single else colour))
        axis.set_title(cell_title(cell, settings))
        axis.set_ylabel(METRICS[settings["evaluations"][cell["evaluation"]]["metric"]])
    for axis in list(axes.flat)[len(cells) :]:
        axis.remove()
    handles = [plt.Line2D([], [], color=TUNED, label="fine-tuned")]
    handles.append(plt.Line2D([], [], color=BASE, ls="--", label="base"))
    if len(prompts) > 1:
        handles = [
            plt.Line2D([], [], color=colour, label=prompt.replace("_", " "))
            for prompt, colour in zip(prompts, colours, strict=True)
        ]
        handles.append(plt.Line2D([], [], color="grey", ls="--", label="base"))
    handles += source_handles(data)
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure, pd.concat(drawn, ignore_index=True)


def gains_by_checkpoint(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Mean gain by fine-tuning: bars of each group of data sets by checkpoint (Fig 4)."""
    figure, axes = grid(1, 1)
    figure.set_size_inches(1.6 * figure.get_size_inches()[0], figure.get_size_inches()[1])
    axis, drawn = axes[0, 0], []
    groups = {group["title"]: group["cells"] for group in settings["groups"]}
    tables = {
        source: mean_gains(pairs, groups, settings["checkpoints"])
        for source, pairs in by_source(with_base(data)).items()
    }
    series = [(source, group) for source in tables for group in groups]
    width = 0.8 / len(series)
    colours = dict(zip(groups, sns.color_palette("colorblind"), strict=False))
    places = np.arange(len(settings["checkpoints"]))
    for i, (source, group) in enumerate(series):
        label = group if len(tables) == 1 else f"{group}, {source}"
        hatch = HATCHES[source]
        values = tables[source][group]
        offset = (i - (len(series) - 1) / 2) * width
        axis.bar(places + offset, values, width, label=label, color=colours[group], hatch=hatch)
        drawn.append(tables[source][["checkpoint"]].assign(source=source, group=group, gain=values))
    axis.axhline(0, color="black", lw=0.8)
    axis.set(ylabel="mean gain in score")
    checkpoint_axis(axis, settings)
    figure.legend(loc="outside right center", frameon=False)
    return figure, pd.concat(drawn, ignore_index=True)


def changes_by_evaluation(data: pd.DataFrame, settings: dict) -> tuple[Figure, pd.DataFrame]:
    """Ratio of change of each cell, mean and standard error over checkpoints (Fig 7)."""
    figure, axes = grid(1, 1)
    axis, drawn = axes[0, 0], []
    figure.set_size_inches(1.6 * figure.get_size_inches()[0], 1.3 * figure.get_size_inches()[1])
    sources = by_source(with_base(data))
    width = 0.8 / len(sources)
    for i, (source, pairs) in enumerate(sources.items()):
        for place, cell in enumerate(settings["cells"]):
            own = ratios(pairs, [cell["task"]], [cell["evaluation"]], settings["checkpoints"])
            mean, error = own.ratio.mean(), own.ratio.std() / len(own) ** 0.5
            where = place + (i - (len(sources) - 1) / 2) * width
            colour = sns.color_palette("colorblind")[0 if mean > 0 else 1]
            hatch = HATCHES[source]
            axis.bar(where, mean, width, yerr=error, color=colour, capsize=2, hatch=hatch)
            drawn.append(own.assign(source=source, mean=mean, stderr_over_checkpoints=error))
    axis.axhline(0, color="black", lw=0.8)
    titles = [cell_title(cell, settings) for cell in settings["cells"]]
    axis.set_xticks(range(len(titles)), titles, rotation=45, ha="right")
    axis.set_ylabel("mean ratio of change")
    if len(sources) > 1:
        handles = [Patch(fc="white", ec="black", hatch=HATCHES[s], label=s) for s in sources]
        axis.legend(handles=handles, frameon=False)
    return figure, pd.concat(drawn, ignore_index=True)


def line(axis: Axes, rows: pd.DataFrame, settings: dict, **style: object) -> pd.DataFrame:
    """Scores by checkpoint, a line for each source, with gaps where one is missing."""
    order = settings["checkpoints"]
    for source, own in by_source(rows).items():
        own = own.groupby("checkpoint")[["value", "stderr"]].mean().reindex(order)  # over seeds
        known = own.stderr.fillna(0)
        bars = {"marker": MARKERS[source], "ms": 3, "lw": 1.2, "elinewidth": 0.8} | style
        axis.errorbar(range(len(order)), own.value, known, **bars)
    checkpoint_axis(axis, settings)
    columns = ["source", "checkpoint", "tokens", "task", "prompt", "evaluation", "metric"]
    return rows[[*columns, "selection", "value", "stderr"]]


def by_source(data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each source that has some, published ones first."""
    rows = {source: data[data.source == source] for source in MARKERS}
    return {source: own for source, own in rows.items() if len(own)}


def source_handles(data: pd.DataFrame) -> list[plt.Line2D]:
    """Whose numbers a marker shows, where there are two sources."""
    sources = by_source(data)
    if len(sources) == 1:
        return []
    style = {"color": "grey", "ls": "", "ms": 4}
    return [plt.Line2D([], [], marker=MARKERS[s], label=s, **style) for s in sources]


def cell_title(cell: dict, settings: dict) -> str:
    evaluation = settings["evaluations"][cell["evaluation"]]["title"]
    return f"{settings['trained_on'][cell['task']]} → {evaluation}"


def checkpoint_axis(axis: Axes, settings: dict) -> None:
    labels = [step_text(checkpoint) for checkpoint in settings["checkpoints"]]
    axis.set_xticks(range(len(labels)), labels, rotation=45)
    axis.set_xlabel("pre-training steps")


def step_text(checkpoint: str) -> str:
    """step342000 -> 342K; main stays."""
    step = checkpoint.removeprefix("step")
    return f"{int(step) // 1000}K" if step.isdigit() else step
