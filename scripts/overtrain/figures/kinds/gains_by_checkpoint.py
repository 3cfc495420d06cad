"""Mean gain by fine-tuning: bars of each group of data sets by checkpoint (Fig 4)."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import InGroups
from overtrain.figures.kind import Data, Drawn, Figure


class GainsByCheckpoint(InGroups, Figure):
    """The gain of a group is the mean over its cells; one that is named twice counts twice."""

    plot: Literal["gains_by_checkpoint"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        import numpy as np

        from overtrain.figures.drawing.axes import PALETTE, grid
        from overtrain.figures.drawing.study import HATCHES, by_source, checkpoint_axis
        from overtrain.figures.drawing.summaries import stacked
        from overtrain.studies.amuro_char import as_shown, checkpoints_of, mean_gains, with_base

        figure, axes = grid(1, 1)
        figure.set_figwidth(1.6 * figure.get_figwidth())
        axis, drawn = axes[0, 0], []
        groups = {group["title"]: group["cells"] for group in settings["groups"]}
        tables = {
            source: mean_gains(pairs, groups, checkpoints_of(source, settings))
            for source, pairs in by_source(with_base(as_shown(data, settings))).items()
        }
        series = [(source, group) for source in tables for group in groups]
        width = 0.8 / len(series)
        colours = dict(zip(groups, PALETTE, strict=False))
        for i, (source, group) in enumerate(series):
            label = group if len(tables) == 1 else f"{group}, {source}"
            style = {"label": label, "color": colours[group], "hatch": HATCHES[source]}
            own = tables[source]
            places = np.array([settings["checkpoints"].index(name) for name in own.checkpoint])
            values = own[group]
            offset = (i - (len(series) - 1) / 2) * width
            axis.bar(places + offset, values, width, **style)
            drawn.append(own[["checkpoint"]].assign(source=source, group=group, gain=values))
        axis.axhline(0, color="black", lw=0.8)
        axis.set(ylabel="mean gain in score")
        checkpoint_axis(axis, settings)
        figure.legend(loc="outside right center", frameon=False)
        return figure, stacked(drawn)
