"""Docstrings by training step: when a habit is unlearned, if it is."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.programs import OfPrograms
from overtrain.figures.kind import Data, Drawn

THICK = 3.0  # the chosen rate's line


class DocstringsByStep(OfPrograms):
    """A row of panels for each checkpoint, a panel for each task, a line for each learning rate.

    Lines begin at the base, step 0, and the one of the chosen rate is thicker.
    """

    selections: ClassVar[set[str]] = {"base", "snapshot", "last"}

    plot: Literal["docstrings_by_step"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing import programs
        from overtrain.figures.drawing.axes import Shades, grid, is_above, plt
        from overtrain.figures.drawing.summaries import stacked

        titles, tasks = settings["titles"], settings["tasks"]
        rows = programs.checkpoints(data, settings)
        shades = Shades(
            data[data.selection == "last"].learning_rate, "learning rate", programs.rate_text
        )
        shares = at_every_step(programs.of(data, programs.SHARE, "snapshot", "last"))
        table = programs.over_seeds(shares, ["learning_rate", "step"])
        base = programs.over_seeds(programs.of(data, programs.SHARE, "base"), []).assign(step=0)
        begun = table[[*programs.SWEEP, "learning_rate"]].drop_duplicates()
        table = stacked([begun.merge(base, on=programs.SWEEP), table])
        table["chosen"] = programs.is_chosen(table, programs.chosen_rates(data))
        figure, axes = grid(len(rows), len(tasks))
        wrapped = dict(zip([(r, t) for r in rows for t in tasks], axes.flat, strict=True))
        for ((model, checkpoint), task), axis in wrapped.items():
            shown = (table.model == model) & (table.checkpoint == checkpoint) & (table.task == task)
            for rate, line in table[shown].sort_values("step").groupby("learning_rate"):
                width, order = (THICK, 1) if line.chosen.any() else (1.0, 2)  # it hides none
                points = (line.step, line["mean"], line["std"])
                style = programs.POINT | {"linewidth": width, "elinewidth": 0.8, "zorder": order}
                axis.errorbar(*points, color=shades.colour(rate), **style)
            several = len(rows) > 1
            name = programs.title(model, checkpoint, rows, titles)
            axis.set_title(f"{name},\n{titles[task]}" if several else titles[task])
            programs.percent_axis(axis)
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel("docstrings (%)")
            axis.set_xlabel("" if is_above(axis, axes) else "training step")
        handles: list = shades.handles()
        thick = {"color": "0.4", "linewidth": THICK}
        handles.append(plt.Line2D([], [], label="lowest validation loss", **thick))
        programs.explain(figure, handles, shades.title)
        return figure, table


def at_every_step(shares: Data) -> Data:
    """With a diverged run, which has no weights and so no step, at all steps of its sweep.

    Its rate has no mean at any of them.
    """
    from overtrain.figures.drawing.programs import SWEEP
    from overtrain.figures.drawing.summaries import stacked

    lost = shares[shares.step.isna()]
    steps = shares[[*SWEEP, "step"]].dropna().drop_duplicates()
    return stacked([shares.dropna(subset="step"), lost.drop(columns="step").merge(steps)])
