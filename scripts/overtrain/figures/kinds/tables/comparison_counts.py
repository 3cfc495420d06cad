"""How many of our scores disagree with the published ones, by group."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.kind import Data
from overtrain.figures.kinds.tables import comparison


class ComparisonCounts(comparison.Comparison):
    """Disagreement: 95 % intervals that have no value in common."""

    content: Literal["comparison_counts"]  # type: ignore[assignment]

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd

        rows = {}
        cells = comparison.cells_of(data, settings)
        groups = dict(list(cells.groupby("group", sort=False)))
        for group, own in [*groups.items(), ("All", cells)]:
            known = own.disjoint.notna()
            disagree = int(own.disjoint[known].sum())
            rows[group] = {
                "Scores": len(own),
                "Of both": int(own.difference.notna().sum()),
                "With both intervals": int(known.sum()),
                "Intervals disjoint": disagree,
                "Share": f"{100 * disagree / known.sum():.0f} %" if known.any() else "-",
            }
        return pd.DataFrame(rows).T.rename_axis("Group")
