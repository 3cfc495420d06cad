"""The learning rate by validation beside the paper's, for each task and checkpoint."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.released_numbers import OfStudy, files_of_runs, of_ours, our_titles
from overtrain.figures.kind import Catalogue, Data, Table


class ChosenRates(OfStudy, Table):
    """Of what our runs are fine-tuned on that has a validation split; a chat has none."""

    metrics: ClassVar[set[str]] = {"accuracy", "rouge_l"}
    selections: ClassVar[set[str]] = {"last"}
    scaled: ClassVar[bool] = True

    content: Literal["chosen_rates"]

    def measurements(self, catalogue: Catalogue) -> list[str]:
        ours = self.study_settings(catalogue).ours
        return [
            file
            for point in catalogue.checkpoints(ours.model)
            for own in ours.tuned.values()
            if catalogue.own_files(own.task)
            for file in files_of_runs(point, own, "validation", [], catalogue)
        ]

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        return {"evaluation": ["id"], "split": ["validation"]}

    def printed(self, catalogue: Catalogue) -> dict:
        study = self.study_settings(catalogue)
        own = of_ours(study, "validation", catalogue)
        return super().printed(catalogue) | {
            "tuned": [[name, how] for name, how in own["ours"]["tuned"].items()],
            "checkpoints": own["checkpoints_of"]["ours"],
            "trained_on": our_titles(study, catalogue)["trained_on"],
        }

    @staticmethod
    def tabulate(data: Data, settings: dict) -> Data:
        import pandas as pd

        from overtrain.studies.amuro_char import best_rates, validation_scores

        def number(value: float, form: str) -> str:
            return "-" if pd.isna(value) else format(value, form)

        rows = []
        for name, how in settings["tuned"]:
            if not how["validation"]:
                continue
            own = data[(data.task == how["task"]) & (data.recipe == how["recipe"])]
            scores = validation_scores(own, how["validation"]).reindex(settings["checkpoints"])
            best = best_rates(scores).reindex(scores.index)
            for checkpoint, of_rates in scores.iterrows():
                row = {"Fine-tuned on": settings["trained_on"][name].replace("\n", " ")}
                row |= {"Checkpoint": checkpoint, "Score": how["validation"].replace("_", " ")}
                row |= {f"at {rate:g}": number(of_rates[rate], ".3f") for rate in scores.columns}
                row["Best"] = number(best[checkpoint], "g")
                rows.append(row | {"Paper's": f"{how['learning_rate']:g}"})
        table = pd.DataFrame(rows).fillna("-").set_index("Fine-tuned on")
        rates = sorted((c for c in table if c.startswith("at ")), key=lambda c: float(c[3:]))
        return table[["Checkpoint", "Score", *rates, "Best", "Paper's"]]
