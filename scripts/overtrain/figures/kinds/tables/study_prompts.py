"""Table 3 of "Amuro & Char": formats of the prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from overtrain.figures.families.released_numbers import StudyTable

if TYPE_CHECKING:
    import pandas as pd


class StudyPrompts(StudyTable):
    """A row for each task that has prompts, in the order of the paper."""

    content: Literal["study_prompts"]

    @staticmethod
    def tabulate(data: None, settings: dict) -> pd.DataFrame:
        import pandas as pd

        rows = {
            task["title"]: task["prompts"] | {"expected output": task.get("output")}
            for task in settings["tasks"]
            if task.get("prompts")
        }
        table = pd.DataFrame(rows).T.rename_axis("Task")
        return table.rename(columns=lambda name: name.replace("_", " ").capitalize())
