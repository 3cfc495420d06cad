"""Table 5 of "Amuro & Char": mean gain of each group of data sets by checkpoint."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import InGroups
from overtrain.figures.kind import Data, Table


class MeanGains(InGroups, Table):
    """A column for each group, and of two sources for each of them."""

    content: Literal["mean_gains"]

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd

        from overtrain.studies import amuro_char as study

        groups = {group["title"]: group["cells"] for group in settings["groups"]}
        tables = []
        for name, pairs in study.sourced(study.with_base(study.as_shown(data, settings))).items():
            shown = study.checkpoints_of(pairs.source.iloc[0], settings)
            own = study.mean_gains(pairs, groups, shown).set_index("checkpoint")
            tables.append(own.rename(columns=lambda group, name=name: group + name))
        table = pd.concat(tables, axis=1).reindex(settings["checkpoints"])
        text = table.map("{:.3f}".format, na_action="ignore").fillna("-")
        return text.rename_axis("Checkpoint")
