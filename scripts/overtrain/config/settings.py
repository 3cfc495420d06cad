"""The whole configuration, typed: a field for each section of config.yaml and of studies/.

Figures and tables are declared beside their drawing, which comes later in the flow of data, so
their types are parameters here; `overtrain.configuration` fills them in.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from overtrain.config.benchmarks import Suite
from overtrain.config.corpora import Corpus
from overtrain.config.encoders import Encoder
from overtrain.config.evaluations import Evaluations, Statistics
from overtrain.config.grids import Grid
from overtrain.config.hardware import Hardware, ReleasedShape
from overtrain.config.judges import Judge, Prompts
from overtrain.config.models import Model, Pretraining
from overtrain.config.noise import Interpolation, Perturbation, Sharpness
from overtrain.config.recipes import ChatTemplate, InstructionRecipe, Recipe, VisualRecipe
from overtrain.config.resources import AllResources
from overtrain.config.section import Distinct, Named, Section, Text
from overtrain.config.studies import AmuroChar, ReleasedNumbers, Theory
from overtrain.config.task_suites import TaskSuite
from overtrain.config.tasks import Task
from overtrain.config.vision_suites import VisionSuite

Figure = TypeVar("Figure")
Table = TypeVar("Table")


class Sources(Section):
    """Models and data sets of the hub; rule check_sources asks which exist."""

    pins: Text = Field(
        description="File that keeps the commit of each revision when it was first asked for"
    )


class Settings(Section, Generic[Figure, Table]):
    """Checked section by section; `overtrain.config.check` checks what they say of each other."""

    scale: str | None = Field(
        default=None, description="Written in every figure's title; null at the paper's scale"
    )
    sources: Sources
    corpora: Named[Corpus] = Field(description="Text to pre-train on")
    models: Named[Model] = Field(description="Pre-trained here, or released on the hub")
    pretraining: Pretraining
    tasks: Named[Task] = Field(description="Fine-tuning tasks")
    recipes: Named[Recipe] = Field(description="Settings of fine-tuning (Table 4)")
    instruction_recipes: Named[InstructionRecipe] = Field(
        description="Settings of instruction tuning (Table 2)"
    )
    visual_recipes: Named[VisualRecipe] = Field(
        description="Settings of visual tuning, in two stages (Table 2)"
    )
    encoders: Named[Encoder] = Field(description="Frozen vision encoders")
    chat: ChatTemplate
    evaluations: Evaluations
    benchmark_suites: Named[Suite]
    vision_suites: Named[VisionSuite]
    task_suites: Named[TaskSuite]
    prompts: Named[Prompts]
    judges: Named[Judge]
    perturbation: Perturbation
    sharpness: Sharpness
    interpolation: Interpolation
    statistics: Statistics
    theory: Theory
    released_numbers: Named[ReleasedNumbers] = Field(
        description="Numbers that authors released, pinned"
    )
    amuro_char: AmuroChar
    model_sets: Named[Distinct[Text]] = Field(
        description="Lists of models that figures name, for an overlay to change in one place"
    )
    task_sets: Named[Distinct[Text]] = Field(description="The same of tasks")
    figures: Named[Named[Figure]] = Field(description="By paper and name")
    figure_grids: dict[str, dict[str, Grid]] = Field(
        default={}, description="Settings by plots, expanded to figures"
    )
    tables: Named[Named[Table]] = Field(description="By paper and name")
    restated: Named[Named[Text]] = Field(
        default={},
        description="Figures of a paper that are another's: by paper and name, what to ask for",
    )
    resources: AllResources
    hardware: Hardware
    shapes: Named[ReleasedShape] = Field(
        min_length=1, description="Of released models, by size: what their jobs cost and hold"
    )
