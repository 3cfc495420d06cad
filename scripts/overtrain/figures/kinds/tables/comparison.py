"""Our scores beside the published ones: a row for each cell and checkpoint."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import Formats, InGroups
from overtrain.figures.kind import Data, Table


class Comparison(InGroups, Table):
    """With 95 % intervals, 1.96 of the bootstrap's standard errors on each side."""

    content: Literal["comparison"]
    source: Literal["both"]
    prompts: Formats

    def formats(self) -> list[str]:
        return list(self.prompts)

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd

        from overtrain.studies.amuro_char import WIDE

        def number(value: float, form: str = ".3f") -> str:
            return "-" if pd.isna(value) else format(value, form)

        def interval(value: float, stderr: float) -> str:
            if pd.isna(value) or pd.isna(stderr):
                return "-"
            return f"{value - WIDE * stderr:.3f} to {value + WIDE * stderr:.3f}"

        titles = settings["evaluations"]
        rows = [
            {
                "Group": cell.group,
                "Fine-tuned on": settings["trained_on"].get(cell.task, "-"),
                "Evaluation": titles[cell.evaluation]["title"],
                "Format": cell.prompt.replace("_", " "),
                "Checkpoint": cell.checkpoint,
                "Ours": number(cell.ours),
                "Ours, 95 %": interval(cell.ours, cell.ours_stderr),
                "Theirs": number(cell.theirs),
                "Theirs, 95 %": interval(cell.theirs, cell.theirs_stderr),
                "Difference": number(cell.difference, "+.3f"),
                "Disjoint": {None: "-", True: "yes", False: "no"}[cell.disjoint],
            }
            for cell in cells_of(data, settings).itertuples()
        ]
        return pd.DataFrame(rows).set_index("Group")


def cells_of(data: Data, settings: dict) -> Data:
    """The cells that are compared."""
    from overtrain.studies.amuro_char import as_shown, compared

    return compared(as_shown(data, settings), settings["groups"], settings["checkpoints"])
