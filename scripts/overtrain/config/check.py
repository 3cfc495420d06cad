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
    check_study("amuro_char", settings.amuro_char, settings)


def check_released_model(where: str, model: ReleasedModel, settings: Settings) -> None:
    """Its size and its reference checkpoint must exist."""
    for stage in SIZED:
        sizes = getattr(settings.resources, stage)
        known(f"{where}.size", model.size, f"resources.{stage}", sizes)
    known(f"{where}.size", model.size, "shapes", settings.shapes)
    section, names = f"{where}.hub.checkpoints", model.hub.checkpoints
    known(f"{where}.reference", model.reference, section, names)
    if (suite := model.benchmark_suite) is not None:
        known(f"{where}.benchmark_suite", suite, "benchmark_suites", settings.benchmark_suites)


def check_visual_recipe(where: str, name: str, settings: Settings) -> None:
    """Its encoder and its captions must exist, and no other recipe have its name."""
    recipe = settings.visual_recipes[name]
    if name in settings.instruction_recipes:
        raise PipelineError(f"{where}: instruction_recipes has a recipe of that name, too")
    known(f"{where}.encoder", recipe.encoder, "encoders", settings.encoders)
    check_kind(f"{where}.alignment.task", recipe.alignment.task, ("image_chat",), settings)


def check_evaluations(settings: Settings) -> None:
    """What the evaluations of tuned runs name must exist."""
    own = settings.evaluations
    for key, name, section in (
        ("benchmarks.suite", own.benchmarks.suite, "benchmark_suites"),
        ("alpaca.prompts", own.alpaca.prompts, "prompts"),
        ("alpaca.judge", own.alpaca.judge, "judges"),
        ("vision.suite", own.vision.suite, "vision_suites"),
        ("tasks.suite", own.tasks.suite, "task_suites"),
    ):
        known(f"evaluations.{key}", name, section, getattr(settings, section))
    for name, suite in settings.benchmark_suites.items():
        check_suite(f"benchmark_suites.{name}", suite)
    for name, tasks in settings.task_suites.items():
        for evaluation, asked in tasks.evaluations.items():
            where = f"task_suites.{name}.evaluations.{evaluation}.task"
            check_kind(where, asked.task, ("prompted",), settings)
    for name, prompts in settings.prompts.items():
        if isinstance(prompts.source, PromptsOfTask):
            where, task = f"prompts.{name}.source.task", prompts.source.task
            check_kind(where, task, ("chat",), settings)


def check_kind(where: str, task: str, kinds: tuple[str, ...], settings: Settings) -> None:
    """A task exists, and is of one of these kinds."""
    known(where, task, "tasks", settings.tasks)
    if (kind := settings.tasks[task].kind) not in kinds:
        raise PipelineError(
            f"{where} is {task!r}, of kind {kind}; it must be of kind {' or '.join(kinds)}"
        )


def check_suite(where: str, suite: Suite) -> None:
    """A folder has the files of its tasks; lm-eval's own are looked up by prepare_benchmarks."""
    if suite.folder:
        files = [Path(path).stem for path in suite.files() if path.endswith(".yaml")]
        for task, settings in suite.tasks.items():
            if (name := settings.task or task) not in files:
                raise PipelineError(
                    f"{where}.tasks.{task}: no {name}.yaml in {suite.folder}{near(name, files)}"
                )


def check_study(where: str, study: AmuroChar, settings: Settings) -> None:
    """Its tasks name data that it trains on and evaluations that it has; ours can be run."""
    for name, task in study.tasks.items():
        own = f"{where}.tasks.{name}"
        known(f"{own}.trained_on", task.trained_on, f"{where}.trained_on", study.trained_on)
        for key in ("in_domain", "out_of_domain"):
            for value in getattr(task, key):
                known(f"{own}.{key}", value, f"{where}.evaluations", study.evaluations)
    for name in study.hours.tuned:
        known(f"{where}.hours.tuned", name, f"{where}.trained_on", study.trained_on)
    known(f"{where}.ours.model", study.ours.model, "models", settings.models)
    model = settings.models[study.ours.model]
    if not isinstance(model, ReleasedModel):
        raise PipelineError(f"{where}.ours.model is {study.ours.model!r}, which has no `hub`")
    common = settings.evaluations.benchmarks.suite
    suite = model.benchmark_suite or common
    backend, others = (settings.benchmark_suites[name].backend for name in (suite, common))
    if backend != others:
        raise PipelineError(
            f"benchmark_suites.{suite}.backend is {backend!r}; it must be that of {common} "
            f"({others!r}): the rule has one environment"
        )
    for name, tuned in study.ours.tuned.items():
        own = f"{where}.ours.tuned.{name}"
        known(own, name, f"{where}.trained_on", study.trained_on)
        check_kind(f"{own}.task", tuned.task, ("prompted", "chat"), settings)
        section = "instruction_recipes"
        known(f"{own}.recipe", tuned.recipe, section, settings.instruction_recipes)
        recipe = settings.instruction_recipes[tuned.recipe]
        if recipe.study != "amuro_char":
            raise PipelineError(
                f"{own}.recipe is {tuned.recipe!r}, of the study {recipe.study}; "
                f"{section}.{tuned.recipe}.study must be amuro_char"
            )
        if tuned.learning_rate not in recipe.learning_rates:
            raise PipelineError(
                f"{own}.learning_rate is {tuned.learning_rate:g}, which {tuned.recipe} does not "
                f"run; it runs {', '.join(f'{rate:g}' for rate in recipe.learning_rates)}"
            )


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
