"""The base model's scores: a panel for each group, a line for each evaluation (Fig 2)."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.released_numbers import InGroups
from overtrain.figures.kind import Data, Drawn, Figure


class BaseByCheckpoint(InGroups, Figure):
    """Cells name evaluations; their task may be null."""

    selections: ClassVar[set[str]] = {"base"}
    of_base: ClassVar[bool] = True

    plot: Literal["base_by_checkpoint"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import grid, sns
        from overtrain.figures.drawing.study import line, source_handles
        from overtrain.figures.drawing.summaries import stacked
        from overtrain.studies.amuro_char import as_shown

        data = as_shown(data, settings)
        figure, axes = grid(1, len(settings["groups"]))
        figure.set_size_inches(1.7 * figure.get_figwidth(), 1.2 * figure.get_figheight())
        drawn = []
        for axis, group in zip(axes[0], settings["groups"], strict=True):
            names = [cell["evaluation"] for cell in group["cells"]]
            colours = sns.color_palette("colorblind", len(names))
            for name, colour in zip(names, colours, strict=True):
                own = data[(data.evaluation == name) & (data.selection == "base")]
                style = {"color": colour, "label": settings["evaluations"][name]["title"]}
                drawn.append(line(axis, own, settings, **style).assign(group=group["title"]))
            axis.set(ylabel="score", title=group["title"])
            beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
            handles = axis.get_legend_handles_labels()[0] + source_handles(data)
            axis.legend(handles=handles, frameon=False, fontsize="small", **beside)
        return figure, stacked(drawn)
