"""Docstrings after tuning by pre-training tokens: is an old habit harder to unlearn?"""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.programs import OfPrograms
from overtrain.figures.families.tuned_runs import TokenAxis
from overtrain.figures.kind import Data, Drawn


class DocstringsByTokens(OfPrograms):
    """A panel for each model and task: a line for each learning rate, the base dashed.

    Behind them in black, each checkpoint's rate of the lowest mean validation loss.
    """

    plot: Literal["docstrings_by_tokens"]
    token_axis: TokenAxis

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing import programs
        from overtrain.figures.drawing.axes import Shades, budget_axis, grid, is_above, plt
        from overtrain.figures.drawing.summaries import stacked

        titles = settings["titles"]
        shades = Shades(
            data[data.selection == "last"].learning_rate, "learning rate", programs.rate_text
        )
        last = programs.of(data, programs.SHARE, "last")
        table = programs.over_seeds(last, ["learning_rate"])
        table["chosen"] = programs.is_chosen(table, programs.chosen_rates(data))
        base = programs.over_seeds(programs.of(data, programs.SHARE, "base"), [])
        panels = [(model, task) for model in settings["models"] for task in settings["tasks"]]
        several = len(settings["models"]) > 1
        figure, axes = grid(1, len(panels))
        for axis, (model, task) in zip(axes.flat, panels, strict=True):
            own, before = (
                found[(found.model == model) & (found.task == task)].sort_values("tokens")
                for found in (table, base)
            )
            for rate, line in own.groupby("learning_rate"):
                points = (line.tokens, line["mean"], line["std"])
                axis.errorbar(*points, color=shades.colour(rate), **programs.POINT)
            best = own[own.chosen].set_index("tokens").reindex(own.tokens.unique())  # gaps: none
            axis.plot(best.index, best["mean"], **programs.CHOSEN)
            axis.plot(before.tokens, before["mean"], **programs.BASE)
            budget_axis(axis, data[data.model == model], settings["token_axis"])
            axis.set_title(f"{titles[model]},\n{titles[task]}" if several else titles[task])
            programs.percent_axis(axis)
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel("docstrings (%)")
            if is_above(axis, axes):
                axis.set_xlabel("")
        handles = shades.handles()
        handles.append(plt.Line2D([], [], label="lowest validation loss", **programs.CHOSEN))
        handles.append(plt.Line2D([], [], label="base", **programs.BASE))
        programs.explain(figure, handles, shades.title)
        drawn = [table.assign(selection="last"), base.assign(selection="base", chosen=False)]
        return figure, stacked([own for own in drawn if len(own)])
