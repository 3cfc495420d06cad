"""Table 2: instruction tuning of the released models, a column for each data set."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.models import Tasks
from overtrain.figures.kind import Catalogue, Data, Table


class ReleasedTuning(Tasks, Table):
    """All data sets are tuned on with one recipe; every learning rate is run."""

    conversations: ClassVar[bool] = True

    content: Literal["released_tuning"]

    def printed(self, catalogue: Catalogue) -> dict:
        tasks = catalogue.names("tasks", self.tasks)
        recipe = catalogue.settings.instruction_recipes[self.recipe]
        known = catalogue.settings.tasks
        return super().printed(catalogue) | {
            "tasks": tasks,
            "task_settings": {
                name: {"title": known[name].title, "examples": known[name].examples.plain()}
                for name in tasks
            },
            "recipe_settings": recipe.plain(),
        }

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        r = settings["recipe_settings"]
        lora = r.get("lora")
        columns = {
            task["title"]: {
                "Conversations, at most": f"{task['examples']['train']:,}",
                "Batch size (conversations)": r["batch_size"],
                "Learning rates": ", ".join(f"{rate:g}" for rate in r["learning_rates"]),
                "Scheduler": r["scheduler"],
                "Warm-up steps": r["warmup_steps"],
                "Optimizer": "AdamW",
                "Betas": ", ".join(f"{b:g}" for b in r["betas"]),
                "Weight decay": r["weight_decay"],
                "Gradient clip (L2)": r["clip"] if r["clip"] is not None else "none",
                "Epochs": r["epochs"],
                "Tokens of a conversation, at most": r["max_length"],
                "What is tuned": f"LoRA, rank {lora['rank']}" if lora else "all weights",
                "Seeds": len(r["seeds"]),
            }
            for task in (settings["task_settings"][name] for name in settings["tasks"])
        }
        return pd.DataFrame(columns).rename_axis("Hyperparameter")
