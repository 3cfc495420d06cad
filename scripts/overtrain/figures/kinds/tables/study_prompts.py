"""Table 3 of "Amuro & Char": formats of the prompts."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import StudyTable
from overtrain.figures.kind import Data


class StudyPrompts(StudyTable):
    """A row for each task that has prompts, in the order of the paper."""

    content: Literal["study_prompts"]

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        rows = {
            task["title"]: task["prompts"] | {"expected output": task.get("output")}
            for task in settings["tasks"]
            if task.get("prompts")
        }
        table = pd.DataFrame(rows).T.rename_axis("Task")
        return table.rename(columns=lambda name: name.replace("_", " ").capitalize())
