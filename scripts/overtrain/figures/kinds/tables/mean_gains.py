"""Table 5 of "Amuro & Char": mean gain of each group of data sets by checkpoint."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import InGroups, OneSource
from overtrain.figures.kind import Data, Table


class MeanGains(InGroups, Table):
    """A column for each group."""

    content: Literal["mean_gains"]
    source: OneSource

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        from overtrain.studies.amuro_char import mean_gains, with_base

        groups = {group["title"]: group["cells"] for group in settings["groups"]}
        table = mean_gains(with_base(data), groups, settings["checkpoints"])
        return table.set_index("checkpoint").map("{:.3f}".format).rename_axis("Checkpoint")
