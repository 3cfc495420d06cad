"""Table 4: fine-tuning settings, a column for each recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from overtrain.config.errors import known
from overtrain.config.section import Distinct, Text
from overtrain.figures.kind import Catalogue, Data, Table


class Finetuning(Table):
    """Every learning rate is run."""

    content: Literal["finetuning"]
    recipes: Distinct[Annotated[Text, Field(description="A key of recipes")]]

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        for name in self.recipes:
            known(f"{where}.recipes", name, "recipes", catalogue.settings.recipes)

    def printed(self, catalogue: Catalogue) -> dict:
        recipes = catalogue.settings.recipes
        own = {name: recipes[name].plain() for name in self.recipes}
        return super().printed(catalogue) | {"recipe_settings": own}

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        columns = {}
        for name in settings["recipes"]:
            r = settings["recipe_settings"][name]
            columns[name] = {
                "Learning rates": ", ".join(f"{rate:g}" for rate in r["learning_rates"]),
                "Batch size": r["batch_size"],
                "Scheduler": r["scheduler"],
                "Warm-up": f"{r['warmup']:.0%} of training",
                "Optimizer": "AdamW",
                "Betas": ", ".join(f"{b:g}" for b in r["betas"]),
                "Weight decay": r["weight_decay"],
                "Gradient clip (L2)": r["clip"] if r["clip"] is not None else "none",
                "Dropout": max(r["dropout"].values()),
                "Epochs": f"{r['epochs']}, best on validation",
                "Seeds": len(r["seeds"]),
            }
        return pd.DataFrame(columns).rename_axis("Hyperparameter")
