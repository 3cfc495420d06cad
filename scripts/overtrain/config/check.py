"""The configuration, checked before the workflow is built: by schema, then by names.

An error is one line: the key, its value, and what would be right.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from overtrain import PipelineError
from overtrain.config.catalogue import (
    CHECKPOINTS,
    NOT_BENCHMARKS,
    OF_INSTRUCTION_RUNS,
    Catalogue,
    cells_of,
    evaluations_shown,
    stood_for,
)

SIZED = ("finetune_instruct", "generate", "benchmarks")  # resources by size of model
STUDIES = ("amuro_char",)  # of published checkpoints: each a section of config.yaml
SCHEMA = Path(__file__).with_name("schema.json")


def check(config: dict, base: dict, overlay: dict) -> None:
    """Raise PipelineError at the first fault of the merged `config`.

    base: config.yaml alone; overlay: what profiles, --configfile and --config laid over it, which
    may change values but not add keys.
    """
    for path in added_keys(overlay, base):
        *parents, key = path
        level = base
        for parent in parents:
            level = level[parent]
        raise PipelineError(
            f"the overlay adds the key {'.'.join(path)}, "
            f"which config.yaml does not have{near(key, level)}"
        )
    check_schema(config)
    check_names(config)


def added_keys(overlay: dict, base: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of keys of `overlay` that `base` lacks."""
    for key, value in overlay.items():
        if key not in base:
            yield (*path, str(key))
        elif isinstance(value, dict) and isinstance(base[key], dict):
            yield from added_keys(value, base[key], (*path, str(key)))


def check_schema(config: dict) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
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


def near(name: str, known: Iterable[str]) -> str:
    """'; allowed: ...', with the nearest known name first if one is near."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint}; allowed: {', '.join(known)}" if known else hint


def check_names(config: dict) -> None:
    """Every model, task, recipe, corpus and set that is named must exist, and keys agree."""

    def known(where: str, name: str, section: str) -> None:
        if name not in config[section]:
            raise PipelineError(
                f"{where} is {name!r}, not in {section}{near(name, config[section])}"
            )

    for name, model in config["models"].items():
        known(f"models.{name}.corpus", model["corpus"], "corpora")
        if "hub" in model:
            check_hub_model(f"models.{name}", model, config)
            continue
        shape = model["architecture"]
        if shape["hidden_size"] % (2 * shape["heads"]):
            raise PipelineError(
                f"models.{name}.architecture.hidden_size is {shape['hidden_size']}; "
                f"it must be an even multiple of heads ({shape['heads']})"
            )
    for section, target in (("model_sets", "models"), ("task_sets", "tasks")):
        for name, members in config[section].items():
            for member in members:
                known(f"{section}.{name}", member, target)
    for name, task in config["tasks"].items():
        for original in stood_for(task):
            known(f"tasks.{name}.stands_for", original, "tasks")
        if task["kind"] == "classification" and len(task["choices"]) != len(
            task["label"]["values"]
        ):
            raise PipelineError(
                f"tasks.{name}.label.values has {len(task['label']['values'])} values; "
                f"choices has {len(task['choices'])}, and they must correspond"
            )
    check_instruction_tuning(config, known)
    check_theory(config["theory"])
    for name in config["published"]:
        if name not in STUDIES:
            raise PipelineError(f"published.{name} has no reader{near(name, STUDIES)}")
    for name in STUDIES:
        check_study(name, config[name])
    catalogue = Catalogue(config)
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
                        known(f"{where}.{key}", names, sets)
                    else:
                        for name in names:
                            known(f"{where}.{key}", name, section)
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
                    known(f"{where}.recipe", recipe, section)
                check_kinds(where, settings, tuned, catalogue)
                if settings.get("plot") in OF_INSTRUCTION_RUNS:
                    check_panels(where, settings, catalogue)
                if settings.get("plot") == "loss_along_direction":
                    check_direction(where, settings, config["recipes"])
                if "models" in settings and "plot" in settings:
                    check_wording(f"{where}.title", settings["title"], settings, catalogue)
                if settings.get("content") == "figure_index":
                    check_index(where, paper, target, catalogue)


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
        if plot == "noise_by_tokens" and "hub" in model and "initialisation" not in model:
            raise PipelineError(
                f"{where}.models names {name}, which has no `initialisation` to size the noise by"
            )


def check_hub_model(where: str, model: dict, config: dict) -> None:
    """Its size and its reference checkpoint must exist."""
    for rule in SIZED:
        if model["size"] not in config["resources"][rule]:
            raise PipelineError(
                f"{where}.size is {model['size']!r}, not in resources.{rule}"
                f"{near(model['size'], config['resources'][rule])}"
            )
    checkpoints = [name for name, point in model["hub"]["checkpoints"].items() if point]
    if model["reference"] not in checkpoints:
        raise PipelineError(
            f"{where}.reference is {model['reference']!r}, not in {where}.hub.checkpoints"
            f"{near(model['reference'], checkpoints)}"
        )


def check_stand_in(where: str, model: dict, config: dict) -> None:
    """The revisions of a model that stands in for a released one must be trained here."""
    if (folder := Path(model["hub"]["repository"])).parent == CHECKPOINTS:
        of = config["models"].get(folder.name, {})
        if "architecture" not in of:
            raise PipelineError(
                f"{where}.hub.repository is {str(folder)!r}; {folder.name} is no model trained here"
            )
        made = [c.name for c in Catalogue(config).checkpoints(folder.name)]
        for name, point in model["hub"]["checkpoints"].items():
            if point and (revision := point["revision"]) not in made:
                raise PipelineError(
                    f"{where}.hub.checkpoints.{name}.revision is {revision!r}, which is no "
                    f"checkpoint of {folder.name}{near(revision, made)}"
                )


def check_instruction_tuning(config: dict, known: Callable[[str, str, str], None]) -> None:
    """What section 2's evaluations name must exist, and the reference run must be run."""
    own = config["evaluations"]
    known("evaluations.benchmarks.suite", own["benchmarks"]["suite"], "benchmark_suites")
    known("evaluations.alpaca.prompts", own["alpaca"]["prompts"], "prompts")
    known("evaluations.alpaca.judge", own["alpaca"]["judge"], "judges")
    for name, suite in config["benchmark_suites"].items():
        check_suite(f"benchmark_suites.{name}", suite)
    for name, prompts in config["prompts"].items():
        if "task" in prompts["source"]:
            where, task = f"prompts.{name}.source.task", prompts["source"]["task"]
            known(where, task, "tasks")
            if config["tasks"][task]["kind"] != "chat":
                raise PipelineError(f"{where} is {task!r}, which is not of kind chat")
    for name, task in config["tasks"].items():
        source = task["source"]
        if "answers" in source and len(source["answers"]) != len(source["packages"]):
            raise PipelineError(
                f"tasks.{name}.source.answers has {len(source['answers'])} entries; packages has "
                f"{len(source['packages'])}, and they must correspond"
            )


def check_suite(where: str, suite: dict) -> None:
    """Names of benchmarks are free, a folder has their files, and made questions their text."""
    for name in NOT_BENCHMARKS:
        if name in suite["tasks"]:
            raise PipelineError(f"benchmark_suites: {name!r} cannot be a benchmark's name")
    for task, settings in suite["tasks"].items():
        if "data" in settings and "packages" not in suite:
            raise PipelineError(f"{where}.packages is missing; tasks.{task}.data is made of them")
        if suite["folder"]:  # lm-eval's own names are looked up by rule prepare_benchmarks
            known = [path.stem for path in sorted(Path(suite["folder"]).glob("*.yaml"))]
            if (name := settings.get("task", task)) not in known:
                raise PipelineError(
                    f"{where}.tasks.{task}: no {name}.yaml in {suite['folder']}{near(name, known)}"
                )


def check_kinds(where: str, target: dict, instruction: bool, catalogue: Catalogue) -> None:
    """Conversations are for instruction tuning, and nothing else is."""
    for name in catalogue.names(target, "tasks") if "tasks" in target else []:
        kind = catalogue.config["tasks"][name]["kind"]
        if instruction != (kind == "chat"):
            raise PipelineError(
                f"{where}.tasks names {name}, of kind {kind}; "
                f"this one shows {'only' if instruction else 'no'} tasks of kind chat"
            )


def check_panels(where: str, figure: dict, catalogue: Catalogue) -> None:
    """Panels show what is measured; a win rate needs the run that it compares with."""
    known = [*NOT_BENCHMARKS, *catalogue.suite["tasks"]]
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
        catalogue.judge["kind"] == "overlap"
        and "task" not in (catalogue.config["prompts"][alpaca["prompts"]]["source"])
    ):
        raise PipelineError(
            f"evaluations.alpaca.judge is {alpaca['judge']!r}, of kind overlap, which needs "
            f"prompts with known answers; {alpaca['prompts']!r} has none"
        )
    batch_size = catalogue.config["instruction_recipes"][figure["recipe"]]["batch_size"]
    for model in catalogue.names(figure, "models"):
        own = catalogue.sized("finetune_instruct", model)
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


def check_study(where: str, study: dict) -> None:
    for name, task in study["tasks"].items():
        for key, names, values in (
            ("trained_on", "trained_on", [task["trained_on"]]),
            ("in_domain", "evaluations", task["in_domain"]),
            ("out_of_domain", "evaluations", task["out_of_domain"]),
        ):
            for value in values:
                if value not in study[names]:
                    raise PipelineError(
                        f"{where}.tasks.{name}.{key} is {value!r}, not in {where}.{names}"
                        f"{near(value, study[names])}"
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
    if target["published"] not in config["published"]:
        raise PipelineError(
            f"{where}.published is {target['published']!r}, not in published"
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


def check_theory(theory: dict) -> None:
    """Features must decrease, before and after fine-tuning (section 4.3)."""
    largest, smallest = theory["features"]["largest"], theory["features"]["smallest"]
    if smallest >= largest:
        raise PipelineError(
            f"theory.features.smallest is {smallest}; it must be less than largest ({largest})"
        )
    for name, (first, last) in theory["fine_tuning"]["spectra"].items():
        if first * largest <= last * smallest:
            raise PipelineError(
                f"theory.fine_tuning.spectra.{name} is [{first}, {last}]; its features must "
                f"decrease: last / first less than {largest / smallest:g}, as pre-training's do"
            )
    if 0 not in theory["fine_tuning"]["lambdas"]:
        raise PipelineError(
            f"theory.fine_tuning.lambdas is {theory['fine_tuning']['lambdas']}; "
            "it must hold 0, fine-tuning without penalty (Theorem 4.7, part 1)"
        )
    batch_size, count = theory["fine_tuning"]["batch_size"], theory["features"]["count"]
    if batch_size < count:
        raise PipelineError(
            f"theory.fine_tuning.batch_size is {batch_size}; "
            f"it must be at least features.count ({count})"
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
                f"allowed: {', '.join(map(str, theory['lambdas']))}"
            )
