"""Table 2: tuning of the released models, a column for each data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config.errors import near
from overtrain.config.recipes import InstructionRecipe, StepsOnConversations, VisualRecipe
from overtrain.figures.families.models import (
    INSTRUCTION_TUNING,
    VISUAL_TUNING,
    Runs,
    check_tasks,
)
from overtrain.figures.kind import Catalogue, Data, Table


class ReleasedTuning(Table):
    """Every learning rate is run; a task of images has a column for each of two stages."""

    content: Literal["released_tuning"]
    parts: Annotated[list[Runs], Field(min_length=1)] = Field(
        description="Tasks with their recipe, one of instruction_recipes or of visual_recipes"
    )

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        settings = catalogue.settings
        for i, part in enumerate(self.parts):
            ways = [
                way
                for way in (INSTRUCTION_TUNING, VISUAL_TUNING)
                if part.recipe in getattr(settings, way.recipes)
            ]
            if not ways:
                names = [*settings.instruction_recipes, *settings.visual_recipes]
                raise PipelineError(
                    f"{where}.parts.{i}.recipe is {part.recipe!r}, not in instruction_recipes or "
                    f"visual_recipes{near(part.recipe, names)}"
                )
            check_tasks(f"{where}.parts.{i}", part.tasks, ways[0], catalogue)

    def printed(self, catalogue: Catalogue) -> dict:
        columns = [
            column
            for part in self.parts
            for task in catalogue.names("tasks", part.tasks)
            for column in columns_of(task, part.recipe, catalogue)
        ]
        return super().printed(catalogue) | {"columns": columns}

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        columns = {}
        for column in settings["columns"]:
            steps = column["steps"]
            columns[column["title"]] = {
                "Conversations, at most": f"{column['examples']:,}",
                "Batch size (conversations)": steps["batch_size"],
                "Learning rates": ", ".join(f"{rate:g}" for rate in column["learning_rates"]),
                "Scheduler": steps["scheduler"],
                "Warm-up steps": steps["warmup_steps"],
                "Optimizer": "AdamW",
                "Betas": ", ".join(f"{b:g}" for b in steps["betas"]),
                "Weight decay": steps["weight_decay"],
                "Gradient clip (L2)": steps["clip"] if steps["clip"] is not None else "none",
                "Epochs": steps["epochs"],
                "Tokens of a conversation, at most": steps["max_length"],
                "What is tuned": column["tuned"],
                "Vision encoder, frozen": column["encoder"],
                "Seeds": column["seeds"],
            }
        return pd.DataFrame(columns).rename_axis("Hyperparameter")


def columns_of(task: str, recipe: str, catalogue: Catalogue) -> Iterator[dict]:
    """What a column says of tuning on a task, or two of its stages."""
    own = catalogue.recipe(recipe)
    rates, seeds = own.learning_rates, len(own.seeds)
    if isinstance(own, InstructionRecipe):
        tuned = f"LoRA, rank {own.lora.rank}" if own.lora else "all weights"
        more = {"tuned": tuned, "encoder": "none", "seeds": seeds, "learning_rates": rates}
        yield stage(task, "", own, catalogue) | more
    if isinstance(own, VisualRecipe):
        first, projectors = own.alignment, own.projectors()
        encoder = {"encoder": catalogue.settings.encoders[own.encoder].title}
        more = {"tuned": "projector", "seeds": len(projectors), **encoder}
        more |= {"learning_rates": [first.learning_rate]}
        yield stage(first.task, ", stage 1", first, catalogue) | more
        more = {"tuned": "language model and projector", "seeds": seeds, **encoder}
        yield stage(task, ", stage 2", own, catalogue) | more | {"learning_rates": rates}


def stage(task: str, which: str, steps: StepsOnConversations, catalogue: Catalogue) -> dict:
    own = catalogue.settings.tasks[task]
    keys = StepsOnConversations.model_fields
    return {
        "title": f"{own.title}{which}",
        "examples": own.examples.train,
        "steps": {key: value for key, value in steps.plain().items() if key in keys},
    }
