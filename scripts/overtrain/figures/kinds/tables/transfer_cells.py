"""The cells of `transfer`: a row for each pair, a column for each checkpoint, percent."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import InDirections
from overtrain.figures.kind import Data, Table
from overtrain.figures.kinds.tables.transfer import by_direction


class TransferCells(InDirections, Table):
    """Directions below each other."""

    content: Literal["transfer_cells"]

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd

        tables = []
        for direction, cells in by_direction(data, settings).items():
            wide = cells.pivot_table(
                index=["task", "evaluation"],
                columns="checkpoint",
                values="ratio",
                sort=False,
                dropna=False,
            )
            wide.index = [f"{task} to {evaluation}" for task, evaluation in wide.index]
            tables.append(wide.assign(direction=direction))
        table = pd.concat(tables)
        table = table.reindex(columns=["direction", *settings["checkpoints"]])
        columns = ["direction", *settings["checkpoints"]]

        def text(ratio: float) -> str:
            return "-" if pd.isna(ratio) else f"{100 * ratio:.2f}"

        percent = table[settings["checkpoints"]].map(text)
        return percent.assign(direction=table["direction"])[columns].rename_axis("Pair")
