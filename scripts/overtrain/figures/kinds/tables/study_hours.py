"""Table 2 of "Amuro & Char": GPU hours as printed, beside ours."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from overtrain.config import paths
from overtrain.figures.families.released_numbers import OfStudy
from overtrain.figures.kind import Catalogue, Data, Table

PRINTED = {
    "training": "Training",
    "evaluation": "Evaluation in domain",
    "out_of_domain": "Evaluation out of domain",
    "across_tasks": "Evaluation across tasks",
    "formats": "Evaluation of formats",
}
OURS = {"training": "training", "evaluation": "all evaluations"}


class StudyHours(OfStudy, Table):
    """A column for each of what is fine-tuned on. Ours are evaluated on everything in one chain."""

    metrics: ClassVar[set[str]] = {"gpu_hours_expected", "gpu_hours_spent"}
    selections: ClassVar[set[str]] = {"base", "last"}
    scaled: ClassVar[bool] = True

    content: Literal["study_hours"]
    spent: bool = Field(description="Whether ours are run, to say what they took")

    def measurements(self, catalogue: Catalogue) -> list[str]:
        return [paths.of_hours(self.study, "spent" if self.spent else "expected")]

    def printed(self, catalogue: Catalogue) -> dict:
        study = self.study_settings(catalogue)
        gpu = catalogue.sized("finetune_instruct", study.ours.model).gpu
        return super().printed(catalogue) | {
            "hours": study.hours.plain(),
            "columns": [[name, title] for name, title in study.plain()["trained_on"].items()],
            "tasks": {name: own.task for name, own in study.ours.tuned.items()},
            "unit": f"{catalogue.settings.hardware.gpu} hours" if gpu else "core-hours",
        }

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd

        hours, columns = settings["hours"], dict(settings["columns"])
        base, preliminary, every = "Base model", "Preliminary", "All"
        rows: dict[str, dict[str, float]] = {}
        for part, text in PRINTED.items():
            own = {columns[name]: of.get(part) for name, of in hours["tuned"].items()}
            rows[f"{text}, printed"] = own
        totals = {columns[name]: sum(of.values()) for name, of in hours["tuned"].items()}
        totals[preliminary] = hours["preliminary"]
        rows["Total, printed"] = totals | {every: sum(totals.values())}
        titles = {task: columns[name] for name, task in settings["tasks"].items()}
        sides = [*titles.values(), base]
        side = data.task.map(titles).fillna(base)
        for metric in ("expected", "spent") if settings["spent"] else ("expected",):
            own = data.assign(side=side)[data.metric == f"gpu_hours_{metric}"]
            ours = own.pivot_table(index="evaluation", columns="side", values="value")
            ours = ours.reindex(index=list(OURS), columns=sides)
            ours.loc["training", base] = 0.0
            total = ours.sum(skipna=False)  # unknown where one part is
            total[every] = total.sum(skipna=False)
            for part, text in OURS.items():
                rows[f"Ours, {text}, {metric}"] = ours.loc[part].to_dict()
            rows[f"Ours, total, {metric}"] = total.to_dict()
        order = [*columns.values(), base, preliminary, every]
        table = pd.DataFrame(rows).T.reindex(columns=order).astype(float)
        text = table.map("{:.4g}".format, na_action="ignore").fillna("-")
        return text.rename_axis(f"Printed: A100 hours. Ours: {settings['unit']}")
