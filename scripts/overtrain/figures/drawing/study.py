"""What figures of a study of released numbers share ("Amuro & Char").

Checkpoints stand at equal distances. Bars are one standard error over an evaluation's examples,
where it is known. Circles are released numbers, squares (or hatched bars) ours.
"""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes

from overtrain.figures.drawing.axes import plt
from overtrain.figures.titles import WIDTH

MARKERS = {"published": "o", "ours": "s"}  # values of the measurements' column `source`
HATCHES = {"published": None, "ours": "//"}
SLANTED = 8  # more checkpoints than this have upright labels
PALE = 0.45  # released numbers, where ours lie over them


def line(axis: Axes, rows: pd.DataFrame, settings: dict, **style: object) -> pd.DataFrame:
    """Scores by checkpoint, a line for each source, with gaps where one is missing."""
    order = settings["checkpoints"]
    sources = by_source(rows)
    for source, own in sources.items():
        seeds = own.groupby("checkpoint")
        values = seeds.value.mean(skipna=False).reindex(order)  # a gap where one diverged
        known = seeds.stderr.mean().reindex(order).fillna(0)
        bars = {"marker": MARKERS[source], "ms": 3, "lw": 1.2, "elinewidth": 0.8} | style
        if len(sources) > 1 and source == "published":
            bars |= {"alpha": PALE, "label": None}
        axis.errorbar(range(len(order)), values, known, **bars)
    checkpoint_axis(axis, settings)
    columns = ["source", "checkpoint", "tokens", "task", "prompt", "evaluation", "metric"]
    return rows[[*columns, "selection", "value", "stderr"]]


def by_source(data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each source that has some, released ones first."""
    rows = {source: data[data.source == source] for source in MARKERS}
    return {source: own for source, own in rows.items() if len(own)}


def source_handles(data: pd.DataFrame) -> list[plt.Line2D]:
    """Whose numbers a marker shows, where there are two sources."""
    sources = by_source(data)
    if len(sources) < 2:
        return []
    style = {"color": "black", "lw": 1.2, "ms": 4}
    alphas = {"published": PALE, "ours": 1}
    return [
        plt.Line2D([], [], marker=MARKERS[s], label=s, alpha=alphas[s], **style) for s in sources
    ]


def cell_title(cell: dict, settings: dict) -> str:
    """What is fine-tuned on and evaluated; lines of each where one is a stand-in."""
    own = settings["trained_on"][cell["task"]]
    evaluation = settings["evaluations"][cell["evaluation"]]["title"]
    if "\n" not in own + evaluation:
        return f"{own} → {evaluation}"
    return "\n".join([*textwrap.wrap(own, WIDTH), *textwrap.wrap(f"→ {evaluation}", WIDTH)])


def checkpoint_axis(axis: Axes, settings: dict) -> None:
    labels = [step_text(checkpoint) for checkpoint in settings["checkpoints"]]
    axis.set_xticks(range(len(labels)), labels, rotation=45 if len(labels) <= SLANTED else 90)
    steps = [checkpoint == "main" or is_step(checkpoint) for checkpoint in settings["checkpoints"]]
    axis.set_xlabel(f"pre-training {'steps' if all(steps) else 'tokens'}")
    if any(map(is_step, settings["checkpoints"])) and not all(steps):
        axis.set_xlabel("pre-training steps, or tokens")


def step_text(checkpoint: str) -> str:
    """step342000 -> 342K; main, and a budget of tokens (0.84M), stay."""
    return f"{int(checkpoint.removeprefix('step')) // 1000}K" if is_step(checkpoint) else checkpoint


def is_step(checkpoint: str) -> bool:
    """Whether its name says a step (step1000), not a budget of tokens (0.84M) or main."""
    return checkpoint.startswith("step") and checkpoint.removeprefix("step").isdigit()
