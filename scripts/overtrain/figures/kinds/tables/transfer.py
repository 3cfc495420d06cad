"""Section 6.2 of "Amuro & Char": the mean ratio of change by direction of transfer."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import InDirections, OneSource
from overtrain.figures.kind import Data, Table


class Transfer(InDirections, Table):
    """Tested against zero, and how far one cell moves the mean.

    Cells of one pair of fine-tuning and evaluation data are not independent, so the test takes one
    mean for each pair: t with pairs - 1 degrees of freedom.
    """

    content: Literal["transfer"]
    source: OneSource

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd
        from scipy.stats import ttest_1samp

        rows = {}
        for direction, cells in by_direction(data, settings).items():
            means = cells.groupby(["task", "evaluation"]).ratio.mean()
            test = ttest_1samp(means, 0)
            low, high = test.confidence_interval()
            others = (cells.ratio.sum() - cells.ratio) / (len(cells) - 1)  # each cell left out
            moves = cells.assign(others=others, moved=(others - cells.ratio.mean()).abs())
            most = moves.loc[moves.moved.idxmax()]
            rows[direction] = {
                "Cells": len(cells),
                "Pairs": len(means),
                "Mean, %": f"{100 * cells.ratio.mean():.2f}",
                "Median, %": f"{100 * cells.ratio.median():.2f}",
                "t": f"{test.statistic:.2f}",
                "p": f"{test.pvalue:.3g}",
                "95 % interval, %": f"{100 * low:.1f} to {100 * high:.1f}",
                "Without one cell, %": f"{100 * others.min():.2f} to {100 * others.max():.2f}",
                "Cell that moves it most": f"{most.task} to {most.evaluation}, {most.checkpoint} "
                f"({100 * most.ratio:+.0f} %): {100 * most.others:.2f} without it",
            }
        return pd.DataFrame(rows).rename_axis("Ratio of change")


def by_direction(data: Data, settings: dict) -> dict[str, Data]:
    """Ratios of change of the cells of each direction, by its title."""
    from overtrain.studies.amuro_char import ratios, with_base

    pairs = with_base(data)
    return {
        d["title"]: ratios(pairs, d["tasks"], d["evaluations"], settings["checkpoints"])
        for d in settings["directions"]
    }
