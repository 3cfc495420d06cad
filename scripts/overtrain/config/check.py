"""What sections say of each other: every name must be there, and what belongs together must agree.

Types and bounds are checked with the types. A fault is one line: the key, its value, and what would
be right.
"""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from overtrain import PipelineError
from overtrain.config.catalogue import (
    NOT_BENCHMARKS,
    OF_INSTRUCTION_RUNS,
    Catalogue,
    cells_of,
    evaluations_shown,
)
from overtrain.config.errors import known, near
from overtrain.config.evaluations import PromptsOfTask, Suite
from overtrain.config.hub import CHECKPOINTS
from overtrain.config.models import ReleasedModel
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
    check_evaluations(settings)
    for name in settings.released_numbers:
        if name not in STUDIES:
            raise PipelineError(f"released_numbers.{name} has no reader{near(name, STUDIES)}")
    check_study("amuro_char", settings.amuro_char)
    check_targets(catalogue)


def check_released_model(where: str, model: ReleasedModel, settings: Settings) -> None:
    """Its size and its reference checkpoint must exist."""
    for stage in SIZED:
        sizes = getattr(settings.resources, stage)
        known(f"{where}.size", model.size, f"resources.{stage}", sizes)
    section, names = f"{where}.hub.checkpoints", model.hub.checkpoints
    known(f"{where}.reference", model.reference, section, names)


def check_evaluations(settings: Settings) -> None:
    """What the evaluations of instruction-tuned runs name must exist."""
    own = settings.evaluations
    for key, name, section in (
        ("benchmarks.suite", own.benchmarks.suite, "benchmark_suites"),
        ("alpaca.prompts", own.alpaca.prompts, "prompts"),
        ("alpaca.judge", own.alpaca.judge, "judges"),
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


# --- targets --------------------------------------------------------------------------------------


def check_targets(catalogue: Catalogue) -> None:
    config = catalogue.config
    check_schema(config)
    for kind in ("figures", "tables"):
        for paper, targets in config[kind].items():
            for target, settings in targets.items():
                where = f"{kind}.{paper}.{target}"
                for key, sets, section in (
                    ("models", "model_sets", "models"),
                    ("tasks", "task_sets", "tasks"),
                ):
                    names = settings.get(key, [])
                    if isinstance(names, str):
                        known(f"{where}.{key}", names, sets, config[sets])
                    else:
                        for name in names:
                            known(f"{where}.{key}", name, section, config[section])
                check_released(where, settings, config)
                check_published(where, settings, config)
                check_theory_figure(where, settings, config["theory"]["fine_tuning"])
                recipes = settings.get(
                    "recipes", [settings["recipe"]] if "recipe" in settings else []
                )
                tuned = settings.get("plot") in OF_INSTRUCTION_RUNS
                tuned = tuned or settings.get("content") == "instruction_tuning"
                for recipe in recipes:
                    section = "instruction_recipes" if tuned else "recipes"
                    known(f"{where}.recipe", recipe, section, config[section])
                check_kinds(where, settings, tuned, catalogue)
                if settings.get("plot") in OF_INSTRUCTION_RUNS:
                    check_panels(where, settings, catalogue)
                if settings.get("plot") == "loss_along_direction":
                    check_direction(where, settings, config["recipes"])
                if "models" in settings and "plot" in settings:
                    check_wording(f"{where}.title", settings["title"], settings, catalogue)
                if settings.get("content") == "figure_index":
                    check_index(where, paper, target, catalogue)


SCHEMA = Path(__file__).with_name("schema.json")


def targets_schema() -> dict:
    own = json.loads(SCHEMA.read_text())["properties"]
    return {"type": "object", "properties": {key: own[key] for key in ("figures", "tables")}}


def check_schema(config: dict) -> None:
    validator = Draft202012Validator(targets_schema())
    errors = sorted(validator.iter_errors(config), key=lambda e: [str(p) for p in e.path])
    error = best_match(errors, key=depth)
    if error is not None:
        raise PipelineError(explain(error))


def depth(error: ValidationError) -> int:
    return -len(error.absolute_path)


def explain(error: ValidationError) -> str:
    """One line for a schema error: where, what it is, what is allowed."""
    where = ".".join(str(part) for part in error.absolute_path) or "config.yaml"
    if error.validator == "additionalProperties":
        allowed = error.schema.get("properties", {})
        unknown = next(key for key in error.instance if key not in allowed)
        return f"{where}: unknown key {unknown!r}{near(unknown, allowed)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{where}: the key {missing!r} is missing"
    value = json.dumps(error.instance, default=str)
    value = value if len(value) <= 60 else value[:57] + "..."
    bound = error.validator_value
    allowed = {
        "type": lambda: (
            f"it must be of type {bound if isinstance(bound, str) else ' or '.join(bound)}"
        ),
        "enum": lambda: f"it must be one of {', '.join(map(str, bound))}",
        "const": lambda: f"it must be {bound}",
        "minimum": lambda: f"it must be at least {bound}",
        "maximum": lambda: f"it must be at most {bound}",
        "exclusiveMinimum": lambda: f"it must be greater than {bound}",
        "exclusiveMaximum": lambda: f"it must be less than {bound}",
        "minItems": lambda: f"it needs at least {bound} items",
        "minProperties": lambda: f"it needs at least {bound} entries",
        "maxItems": lambda: f"it takes at most {bound} items",
        "minLength": lambda: "it must not be empty",
        "uniqueItems": lambda: "its items must differ from each other",
        "pattern": lambda: f"it must match {bound}",
    }.get(error.validator, lambda: error.message)()
    if error.validator == "type" and bound == "number" and isinstance(error.instance, str):
        allowed += " (an exponent needs a point: 1.0e-5)"
    meaning = error.schema.get("description") if isinstance(error.schema, dict) else None
    return f"{where} is {value}; {allowed}" + (f" ({meaning})" if meaning else "")


def check_wording(where: str, title: str, target: dict, catalogue: Catalogue) -> None:
    """What a title names in braces must be there to be filled in."""
    try:
        catalogue.wording(title, target)
    except (KeyError, IndexError, ValueError):
        known = ["models", "tasks", *catalogue.config["recipes"].get(target.get("recipe"), {})]
        raise PipelineError(
            f"{where} is {title!r}; in braces it may name {', '.join(known)}"
        ) from None


def check_index(where: str, paper: str, table: str, catalogue: Catalogue) -> None:
    """An index's titles can be filled in, and each of its cells names a figure."""
    for row, column, figures in catalogue.index(paper, table):
        if not figures and row["match"] is not None:
            raise PipelineError(
                f"{where}: no figure of {paper} has all of {json.dumps(row['match'])} and "
                f"{json.dumps(column['match'])} (row {row['title']!r}, column {column['title']!r})"
            )
        for entry in (row, column):
            check_wording(f"{where}: a title", entry["title"], entry["match"] or {}, catalogue)


def check_direction(where: str, figure: dict, recipes: dict) -> None:
    """A fine-tuning direction is the change of one run."""
    if "recipe" not in figure:
        return
    recipe = recipes[figure["recipe"]]
    rates, seeds = recipe["learning_rates"], recipe["seeds"]
    if len(rates) * len(seeds) > 1:
        raise PipelineError(
            f"{where}.recipe is {figure['recipe']!r}, which has {len(rates)} learning rates and "
            f"{len(seeds)} seeds; a direction is one run: one rate, one seed"
        )


def check_released(where: str, target: dict, config: dict) -> None:
    """Models of the hub are not pre-trained here; noise on them needs their initialisation."""
    plot, names = target.get("plot"), target.get("models", [])
    released = plot in OF_INSTRUCTION_RUNS or target.get("content") == "released_checkpoints"
    for name in config["model_sets"][names] if isinstance(names, str) else names:
        model = config["models"][name]
        if released and "hub" not in model:
            raise PipelineError(
                f"{where}.models names {name}, which has no `hub`; this kind shows released models"
            )
        if not released and "hub" in model and plot != "noise_by_tokens":
            raise PipelineError(
                f"{where}.models names {name}, a released model; only figures of the kinds "
                f"noise_by_tokens, {' and '.join(OF_INSTRUCTION_RUNS)} show those"
            )
        if "hub" in model:
            check_stand_in(f"models.{name}", model, config)
        if plot == "noise_by_tokens" and "hub" in model and not model.get("initialisation"):
            raise PipelineError(
                f"{where}.models names {name}, which has no `initialisation` to size the noise by"
            )


def check_kinds(where: str, target: dict, instruction: bool, catalogue: Catalogue) -> None:
    """Conversations are for instruction tuning, and nothing else is."""
    for name in catalogue.names("tasks", target["tasks"]) if "tasks" in target else []:
        kind = catalogue.config["tasks"][name]["kind"]
        if instruction != (kind == "chat"):
            raise PipelineError(
                f"{where}.tasks names {name}, of kind {kind}; "
                f"this one shows {'only' if instruction else 'no'} tasks of kind chat"
            )


def check_panels(where: str, figure: dict, catalogue: Catalogue) -> None:
    """Panels show what is measured; a win rate needs the run that it compares with."""
    known = [*NOT_BENCHMARKS, *catalogue.suite.tasks]
    for name in sorted(evaluations_shown(figure)):
        if name not in known:
            raise PipelineError(
                f"{where}.panels has {name!r}, not in the suite "
                f"{catalogue.config['evaluations']['benchmarks']['suite']}{near(name, known)}"
            )
    for panel in figure["panels"]:
        alone = [name for name in panel["evaluations"] if name in NOT_BENCHMARKS]
        if alone and len(panel["evaluations"]) > 1:
            raise PipelineError(
                f"{where}.panels takes a mean of {', '.join(panel['evaluations'])}; "
                f"{alone[0]} is no accuracy and needs a panel of its own"
            )
    alpaca = catalogue.config["evaluations"]["alpaca"]
    if (
        catalogue.judge.kind == "overlap"
        and "task" not in (catalogue.config["prompts"][alpaca["prompts"]]["source"])
    ):
        raise PipelineError(
            f"evaluations.alpaca.judge is {alpaca['judge']!r}, of kind overlap, which needs "
            f"prompts with known answers; {alpaca['prompts']!r} has none"
        )
    batch_size = catalogue.config["instruction_recipes"][figure["recipe"]]["batch_size"]
    for model in catalogue.names("models", figure["models"]):
        own = catalogue.sized("finetune_instruct", model).plain()
        together = own["micro_batch"] * max(1, own["gpu"])
        if batch_size % together:
            raise PipelineError(
                f"instruction_recipes.{figure['recipe']}.batch_size is {batch_size}; it must be a "
                f"multiple of micro_batch x gpu of resources.finetune_instruct for {model} "
                f"({own['micro_batch']} x {max(1, own['gpu'])})"
            )
    reference = alpaca["reference"]
    runs = catalogue.runs(figure["recipe"])
    if reference not in list(runs.values()):
        raise PipelineError(
            f"evaluations.alpaca.reference is {json.dumps(reference)}, which the recipe "
            f"{figure['recipe']!r} of {where} does not run; it runs {', '.join(runs)}"
        )


def check_published(where: str, target: dict, config: dict) -> None:
    """What a target of a study of published checkpoints names must be in that study."""
    for key in ("published", "study"):
        if key in target and target[key] not in STUDIES:
            raise PipelineError(
                f"{where}.{key} is {target[key]!r}, which is no study of published checkpoints"
                f"{near(target[key], STUDIES)}"
            )
    if "published" not in target:
        return
    if target["published"] not in config["released_numbers"]:
        raise PipelineError(
            f"{where}.published is {target['published']!r}, not in released_numbers"
            f"{near(target['published'], config['published'])}"
        )
    study = config[target["published"]]
    for cell in (cell for cells in cells_of(target) for cell in cells):
        for key, names in (("task", "trained_on"), ("evaluation", "evaluations")):
            name = cell[key]
            if name is None and target.get("plot") == "base_by_checkpoint":
                continue
            if name not in study[names]:
                raise PipelineError(
                    f"{where}: {key} {name!r} is not in {target['published']}.{names}"
                    f"{near(name, study[names])}"
                )
    if target["source"] != "published" and not study["measurements"]:
        raise PipelineError(
            f"{where}.source is {target['source']!r}; "
            f"{target['published']}.measurements names no file of ours"
        )


def check_theory_figure(where: str, figure: dict, theory: dict) -> None:
    """A figure's spectra and penalties must be among those that are simulated."""
    named = [("spectra", name) for name in figure.get("spectra", [])]
    if "graded" in figure:
        named.append(("graded", figure["graded"]))
    for key, name in named:
        if name not in theory["spectra"]:
            raise PipelineError(
                f"{where}.{key} has {name!r}, not in theory.fine_tuning.spectra"
                f"{near(name, theory['spectra'])}"
            )
    for penalty in figure.get("lambdas", []):
        if penalty not in theory["lambdas"]:
            raise PipelineError(
                f"{where}.lambdas has {penalty}, not in theory.fine_tuning.lambdas; "
                f"allowed: {', '.join(f'{x:g}' for x in theory['lambdas'])}"
            )


def check_stand_in(where: str, model: dict, config: dict) -> None:
    """The revisions of a model that stands in for a released one must be trained here."""
    if (folder := Path(model["hub"]["repository"])).parent == CHECKPOINTS:
        of = config["models"].get(folder.name, {})
        if "architecture" not in of:
            raise PipelineError(
                f"{where}.hub.repository is {str(folder)!r}; {folder.name} is no model trained here"
            )
        made = checkpoint_names(of)
        for name, point in model["hub"]["checkpoints"].items():
            if point and (revision := point["revision"]) not in made:
                raise PipelineError(
                    f"{where}.hub.checkpoints.{name}.revision is {revision!r}, which is no "
                    f"checkpoint of {folder.name}{near(revision, made)}"
                )


def checkpoint_names(model: dict) -> list[str]:
    return [b if s == 0 else f"{b}-seed{s}" for b in model["budgets"] for s in model["seeds"]]
