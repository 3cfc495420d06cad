"""Section 6.2 of "Amuro & Char": the mean ratio of change by direction of transfer."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import InDirections
from overtrain.figures.kind import Data, Table


class Transfer(InDirections, Table):
    """Tested against zero, and how far one cell moves the mean.

    Cells of one pair of fine-tuning and evaluation data are not independent, so the test takes one
    mean for each pair: t with pairs - 1 degrees of freedom.
    """

    content: Literal["transfer"]

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd
        from scipy.stats import ttest_1samp

        rows: dict[str, dict[str, object]] = {}
        for direction, every in by_direction(data, settings).items():
            cells = every.dropna(subset="ratio")
            if cells.empty:
                rows[direction] = {"Cells": 0, "Pairs": 0, **excluded(every)}
                continue
            means = cells.groupby(["task", "evaluation"]).ratio.mean()
            test = ttest_1samp(means, 0)
            low, high = test.confidence_interval()
            left = max(1, len(cells) - 1)
            others = (cells.ratio.sum() - cells.ratio) / left  # each cell left out
            moves = cells.assign(others=others, moved=(others - cells.ratio.mean()).abs())
            most = moves.loc[moves.moved.idxmax()]
            rows[direction] = {
                "Cells": len(cells),
                "Pairs": len(means),
                "Mean, %": f"{100 * cells.ratio.mean():.2f}",
                "Median, %": f"{100 * cells.ratio.median():.2f}",
                "t": f"{test.statistic:.2f}" if len(means) > 1 else "-",
                "p": f"{test.pvalue:.3g}" if len(means) > 1 else "-",
                "95 % interval, %": f"{100 * low:.1f} to {100 * high:.1f}"
                if len(means) > 1
                else "-",
                "Without one cell, %": f"{100 * others.min():.2f} to {100 * others.max():.2f}",
                "Cell that moves it most": f"{most.task} to {most.evaluation}, {most.checkpoint} "
                f"({100 * most.ratio:+.0f} %): {100 * most.others:.2f} without it",
            } | excluded(every)
        return pd.DataFrame(rows).fillna("-").rename_axis("Ratio of change")


def excluded(cells: Data) -> dict[str, str]:
    """Which of our cells have no ratio, and why; published ones all have one."""
    if "excluded" not in cells:
        return {}
    own = cells[cells.excluded != ""]
    names = [f"{c.task} to {c.evaluation}, {c.checkpoint}: {c.excluded}" for c in own.itertuples()]
    return {"Cells without a ratio": "; ".join([f"{len(own)}", *names])}


def by_direction(data: Data, settings: dict) -> dict[str, Data]:
    """Ratios of change of each direction's cells, by its title, and source if there are two."""
    from overtrain.studies.amuro_char import as_shown, checkpoints_of, ratios, sourced, with_base

    found = {}
    for name, pairs in sourced(with_base(as_shown(data, settings))).items():
        shown = checkpoints_of(pairs.source.iloc[0], settings)
        for d in settings["directions"]:
            found[d["title"] + name] = ratios(pairs, d["tasks"], d["evaluations"], shown)
    return found
