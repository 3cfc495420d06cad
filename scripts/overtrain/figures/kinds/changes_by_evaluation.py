"""Ratio of change of each cell, mean and standard error over checkpoints (Fig 7)."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import InCells
from overtrain.figures.kind import Data, Drawn, Figure


class ChangesByEvaluation(InCells, Figure):
    """A bar for each cell, coloured by its sign."""

    plot: Literal["changes_by_evaluation"]

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from matplotlib.patches import Patch

        from overtrain.figures.drawing.axes import PALETTE, grid
        from overtrain.figures.drawing.study import HATCHES, by_source, cell_title
        from overtrain.figures.drawing.summaries import stacked
        from overtrain.studies.amuro_char import as_shown, checkpoints_of, ratios, with_base

        figure, axes = grid(1, 1)
        axis, drawn = axes[0, 0], []
        sources = by_source(with_base(as_shown(data, settings)))
        width = 0.8 / len(sources)
        titles = [cell_title(cell, settings) for cell in settings["cells"]]
        wide, high = (2.8, 2.2) if "\n" in "".join(titles) else (1.6, 1.3)  # stand-ins say much
        figure.set_size_inches(wide * figure.get_figwidth(), high * figure.get_figheight())
        for i, (source, pairs) in enumerate(sources.items()):
            for place, cell in enumerate(settings["cells"]):
                shown = checkpoints_of(source, settings)
                own = ratios(pairs, [cell["task"]], [cell["evaluation"]], shown)
                count = own.ratio.count()
                mean, error = own.ratio.mean(), own.ratio.std() / max(1, count) ** 0.5
                if count < len(own):
                    titles[place] += f"\n({len(own) - count} of {len(own)} have no ratio)"
                where = place + (i - (len(sources) - 1) / 2) * width
                style = {"color": PALETTE[0 if mean > 0 else 1], "hatch": HATCHES[source]}
                axis.bar(where, mean, width, yerr=error, capsize=2, **style)
                drawn.append(own.assign(source=source, mean=mean, stderr_over_checkpoints=error))
        axis.axhline(0, color="black", lw=0.8)
        axis.set_xticks(range(len(titles)), titles, rotation=45, ha="right")
        axis.set_ylabel("mean ratio of change")
        if len(sources) > 1:
            handles = [Patch(fc="white", ec="black", hatch=HATCHES[s], label=s) for s in sources]
            axis.legend(handles=handles, frameon=False)
        return figure, stacked(drawn)
