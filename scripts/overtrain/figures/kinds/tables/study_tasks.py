"""Table 1 of "Amuro & Char": what is trained on and evaluated."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import StudyTable
from overtrain.figures.kind import Data


class StudyTasks(StudyTable):
    """A row for each task, in the order of the paper."""

    content: Literal["study_tasks"]

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        def titles(names: list[str]) -> str:
            return ", ".join(settings["evaluations"][name]["title"] for name in names) or "none"

        rows = {
            task["title"]: {
                "Training": settings["trained_on"][task["trained_on"]],
                "Test in domain": titles(task["in_domain"]),
                "Test out of domain": titles(task["out_of_domain"]),
                "Learning rate": f"{task['learning_rate']:g}",
            }
            for task in settings["tasks"]
        }
        return pd.DataFrame(rows).T.rename_axis("Task")
