"""What sections say of each other: every name must be there, and what belongs together must agree.

Types and bounds are checked with the types. A fault is one line: the key, its value, and what would
be right.
"""

from __future__ import annotations

from pathlib import Path

from overtrain import PipelineError
from overtrain.config.benchmarks import Suite
from overtrain.config.catalogue import Catalogue
from overtrain.config.errors import known, near
from overtrain.config.hub import CHECKPOINTS
from overtrain.config.judges import PromptsOfTask
from overtrain.config.models import PretrainedModel, ReleasedModel
from overtrain.config.resources import SIZED
from overtrain.config.settings import Settings
from overtrain.config.studies import AmuroChar

STUDIES = ("amuro_char",)  # with released numbers: each a section of the configuration


def check(catalogue: Catalogue) -> None:
    """Raise PipelineError at the first fault between two sections."""
    settings = catalogue.settings
    for name, model in settings.models.items():
        known(f"models.{name}.corpus", model.corpus, "corpora", settings.corpora)
        if isinstance(model, ReleasedModel):
            check_released_model(f"models.{name}", model, settings)
    for kind in ("models", "tasks"):
        for name, members in getattr(settings, f"{kind[:-1]}_sets").items():
            for member in members:
                known(f"{kind[:-1]}_sets.{name}", member, kind, getattr(settings, kind))
    for name, task in settings.tasks.items():
        for original in task.stands_for or ():
            known(f"tasks.{name}.stands_for", original, "tasks", settings.tasks)
    known("resources.judge.size", settings.resources.judge.size, "shapes", settings.shapes)
    for name in settings.visual_recipes:
        check_visual_recipe(f"visual_recipes.{name}", name, settings)
    check_evaluations(settings)
    for name in settings.released_numbers:
        if name not in STUDIES:
            raise PipelineError(f"released_numbers.{name} has no reader{near(name, STUDIES)}")
    check_study("amuro_char", settings.amuro_char)


def check_released_model(where: str, model: ReleasedModel, settings: Settings) -> None:
    """Its size and its reference checkpoint must exist."""
    for stage in SIZED:
        sizes = getattr(settings.resources, stage)
        known(f"{where}.size", model.size, f"resources.{stage}", sizes)
    known(f"{where}.size", model.size, "shapes", settings.shapes)
    section, names = f"{where}.hub.checkpoints", model.hub.checkpoints
    known(f"{where}.reference", model.reference, section, names)


def check_visual_recipe(where: str, name: str, settings: Settings) -> None:
    """Its encoder and its captions must exist, and no other recipe have its name."""
    recipe = settings.visual_recipes[name]
    if name in settings.instruction_recipes:
        raise PipelineError(f"{where}: instruction_recipes has a recipe of that name, too")
    known(f"{where}.encoder", recipe.encoder, "encoders", settings.encoders)
    task = recipe.alignment.task
    known(f"{where}.alignment.task", task, "tasks", settings.tasks)
    if (kind := settings.tasks[task].kind) != "image_chat":
        raise PipelineError(
            f"{where}.alignment.task is {task!r}, of kind {kind}; it must be of kind image_chat"
        )


def check_evaluations(settings: Settings) -> None:
    """What the evaluations of tuned runs name must exist."""
    own = settings.evaluations
    for key, name, section in (
        ("benchmarks.suite", own.benchmarks.suite, "benchmark_suites"),
        ("alpaca.prompts", own.alpaca.prompts, "prompts"),
        ("alpaca.judge", own.alpaca.judge, "judges"),
        ("vision.suite", own.vision.suite, "vision_suites"),
    ):
        known(f"evaluations.{key}", name, section, getattr(settings, section))
    for name, suite in settings.benchmark_suites.items():
        check_suite(f"benchmark_suites.{name}", suite)
    for name, prompts in settings.prompts.items():
        if isinstance(prompts.source, PromptsOfTask):
            where, task = f"prompts.{name}.source.task", prompts.source.task
            known(where, task, "tasks", settings.tasks)
            if settings.tasks[task].kind != "chat":
                raise PipelineError(f"{where} is {task!r}, which is not of kind chat")


def check_suite(where: str, suite: Suite) -> None:
    """A folder has the files of its tasks; lm-eval's own are looked up by prepare_benchmarks."""
    if suite.folder:
        files = [Path(path).stem for path in suite.files() if path.endswith(".yaml")]
        for task, settings in suite.tasks.items():
            if (name := settings.task or task) not in files:
                raise PipelineError(
                    f"{where}.tasks.{task}: no {name}.yaml in {suite.folder}{near(name, files)}"
                )


def check_study(where: str, study: AmuroChar) -> None:
    """Its tasks name data that it trains on and evaluations that it has."""
    for name, task in study.tasks.items():
        own = f"{where}.tasks.{name}"
        known(f"{own}.trained_on", task.trained_on, f"{where}.trained_on", study.trained_on)
        for key in ("in_domain", "out_of_domain"):
            for value in getattr(task, key):
                known(f"{own}.{key}", value, f"{where}.evaluations", study.evaluations)


def check_stand_in(name: str, catalogue: Catalogue) -> None:
    """Revisions of a released model that stands in for another are checkpoints trained here."""
    hub, where = catalogue.released(name).hub, f"models.{name}.hub"
    folder = Path(hub.repository)
    if folder.parent != CHECKPOINTS:
        return
    if not isinstance(catalogue.settings.models.get(folder.name), PretrainedModel):
        raise PipelineError(
            f"{where}.repository is {str(folder)!r}; {folder.name} is no model trained here"
        )
    made = [checkpoint.name for checkpoint in catalogue.checkpoints(folder.name)]
    for checkpoint, point in hub.checkpoints.items():
        if point.revision not in made:
            raise PipelineError(
                f"{where}.checkpoints.{checkpoint}.revision is {point.revision!r}, which is no "
                f"checkpoint of {folder.name}{near(point.revision, made)}"
            )
