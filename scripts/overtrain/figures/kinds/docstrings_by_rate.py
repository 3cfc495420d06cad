"""Docstrings, and the validation loss that chooses the learning rate, by learning rate."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.programs import OfPrograms
from overtrain.figures.kind import Data, Drawn


class DocstringsByRate(OfPrograms):
    """A column of panels for each checkpoint: share of docstrings (top), validation loss (bottom).

    A colour for each task, its base dashed, a ring at the rate of the lowest mean loss.
    """

    plot: Literal["docstrings_by_rate"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        import numpy as np

        from overtrain.figures.drawing import programs
        from overtrain.figures.drawing.axes import PALETTE, grid, plt, ticks_at
        from overtrain.figures.drawing.summaries import stacked

        titles, tasks = settings["titles"], settings["tasks"]
        columns = programs.checkpoints(data, settings)
        chosen = programs.chosen_rates(data)
        rows = {"docstrings (%)": programs.SHARE, "validation loss (nats)": programs.LOSS}
        figure, axes = grid(len(rows), len(columns))
        figure.set_figwidth(figure.get_figwidth() + 1.6)  # for the tasks' names beside it
        rates = np.unique(data[data.selection == "last"].learning_rate)
        drawn = []
        for column, (model, checkpoint) in zip(axes.T, columns, strict=True):
            own = data[(data.model == model) & (data.checkpoint == checkpoint)]
            column[0].set_title(programs.title(model, checkpoint, columns, titles))
            for axis, what in zip(column, rows.values(), strict=True):
                before = programs.of(own, what, "base") if what == programs.SHARE else own[:0]
                base = programs.over_seeds(before, [])  # its loss would press the others together
                table = programs.over_seeds(programs.of(own, what, "last"), ["learning_rate"])
                table["chosen"] = programs.is_chosen(table, chosen)
                for place, task in enumerate(tasks):
                    colour = PALETTE[place]
                    for value in base[base.task == task]["mean"].dropna():
                        line = programs.dashes(place, len(tasks))
                        axis.axhline(value, color=colour, linestyle=line, linewidth=1.2)
                    line = table[table.task == task]
                    points = (line.learning_rate, line["mean"], line["std"])
                    axis.errorbar(*points, color=colour, **programs.POINT)
                    best = line[line.chosen]
                    axis.plot(best.learning_rate, best["mean"], linestyle="", **programs.RING)
                axis.set_xscale("log")
                ticks_at(axis.xaxis, rates, programs.rate_text)
                axis.tick_params(axis="x", labelrotation=45)
                said = {"evaluation": what[0], "metric": what[2]}
                drawn += [table.assign(selection="last", **said)]
                drawn += [base.assign(selection="base", chosen=False, **said)]
            programs.percent_axis(column[0])
            column[-1].set_xlabel("learning rate")
            column[0].tick_params(axis="x", labelbottom=False)
        for row, text in zip(axes, rows, strict=True):
            row[0].set_ylabel(text)
        handles = [
            axes[0, 0].errorbar([], [], [0], color=PALETTE[i], label=titles[task], **programs.POINT)
            for i, task in enumerate(tasks)
        ]
        handles.append(plt.Line2D([], [], label="base", color="0.4", linestyle="--", linewidth=1.2))
        ring = {"linestyle": "", "label": "lowest validation loss"}
        handles.append(plt.Line2D([], [], **ring, **programs.RING))
        programs.explain(figure, handles)
        return figure, stacked([table for table in drawn if len(table)])
