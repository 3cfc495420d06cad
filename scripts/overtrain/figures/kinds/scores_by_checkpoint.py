"""Fine-tuned (solid) and base (dashed) scores: a panel for each cell (Figs 3, 5, 6, 8-13)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from overtrain.figures.families.released_numbers import Formats, InCells
from overtrain.figures.kind import Data, Drawn, Figure

METRICS = {"accuracy": "accuracy", "rouge_l": "ROUGE-L"}
COLUMNS = 4  # of panels


class ScoresByCheckpoint(InCells, Figure):
    """A colour for each format of the prompts, where there are several."""

    plot: Literal["scores_by_checkpoint"]
    prompts: Formats = Field(["default"])

    def formats(self) -> list[str]:
        return list(self.prompts)

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import PALETTE, grid, plt, sns
        from overtrain.figures.drawing.study import cell_title, line, source_handles
        from overtrain.figures.drawing.summaries import stacked
        from overtrain.studies.amuro_char import as_shown

        data = as_shown(data, settings)
        prompts, cells = settings["prompts"], settings["cells"]
        columns = min(COLUMNS, len(cells))
        figure, axes = grid(-(-len(cells) // columns), columns)
        colours = [(colour, colour) for colour in sns.color_palette("colorblind", len(prompts))]
        labels = [prompt.replace("_", " ") for prompt in prompts]
        if len(prompts) == 1:
            colours, labels = [PALETTE[:2]], ["fine-tuned"]  # blue and orange, as in the paper
        drawn = []
        for axis, cell in zip(axes.flat, cells, strict=False):
            own = data[data.evaluation == cell["evaluation"]]
            for prompt, (of_tuned, of_base) in zip(prompts, colours, strict=True):
                rows = own[own.prompt == prompt]
                base = rows[rows.selection == "base"]
                tuned = rows[(rows.selection == "last") & (rows.task == cell["task"])]
                drawn.append(line(axis, base, settings, color=of_base, ls="--"))
                drawn.append(line(axis, tuned, settings, color=of_tuned))
            axis.set_title(cell_title(cell, settings))
            axis.set_ylabel(METRICS[settings["evaluations"][cell["evaluation"]]["metric"]])
        for axis in list(axes.flat)[len(cells) :]:
            axis.remove()
        handles = [
            plt.Line2D([], [], color=colour, label=label)
            for (colour, _), label in zip(colours, labels, strict=True)
        ]
        grey = "grey" if len(prompts) > 1 else PALETTE[1]
        handles.append(plt.Line2D([], [], color=grey, ls="--", label="base"))
        handles += source_handles(data)
        figure.legend(handles=handles, loc="outside right center", frameon=False)
        return figure, stacked(drawn)
