"""Which stage of `resources` a rule asks for, which rules share a group, and all jobs that may be.

Only what a limit is checked by; the rules themselves say the same, and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace

from overtrain.config.catalogue import Catalogue
from overtrain.config.models import PretrainedModel

STAGES = {
    "pretrain": "pretrain",
    "finetune": "finetune",
    "evaluate_id": "evaluate",
    "evaluate_c4": "evaluate",
    "perturb_gaussian": "perturb",  # of a released model: perturb_released
    "measure_sharpness": "perturb",
    "interpolate_gaussian": "perturb",
    "finetune_instruct": "finetune_instruct",
    "align_projector": "align_projector",
    "finetune_vision": "finetune_vision",
    "generate_responses": "generate",
    "evaluate_vision": "evaluate_vision",
    "evaluate_task_base": "benchmarks",
    "evaluate_task": "benchmarks",
    "evaluate_programs_base": "generate",
    "evaluate_programs": "generate",
    "evaluate_benchmarks_base": "benchmarks",
    "evaluate_benchmarks": "benchmarks",
    "evaluate_c4_base": "benchmarks",
    "evaluate_c4_instruct": "benchmarks",
    "evaluate_alpaca": "judge",
}
# Groups, the first rule of each before those that follow it: a cluster adds their minutes up.
FOLLOWERS = {
    "finetune": ("evaluate_id", "evaluate_c4"),
    "generate_responses": ("evaluate_benchmarks", "evaluate_c4_instruct"),
    "evaluate_vision": ("evaluate_benchmarks", "evaluate_c4_instruct"),
    "evaluate_task": ("evaluate_benchmarks", "evaluate_c4_instruct"),
    "evaluate_programs": ("evaluate_c4_instruct",),
}
FOLLOWING = {rule for rules in FOLLOWERS.values() for rule in rules}

OF_BOTH = {"perturb_gaussian"}  # rules for models pre-trained here and for released ones
OF_CONTROLLED = {"pretrain", "finetune", "evaluate_id", "evaluate_c4"}
OF_CONTROLLED |= {"measure_sharpness", "interpolate_gaussian"}
# Studies whose tuned weights a rule makes or measures; a rule that is not here is of checkpoints.
OF_TUNED = {
    **dict.fromkeys(("finetune", "evaluate_id", "evaluate_c4"), ("controlled",)),
    **dict.fromkeys(("align_projector", "finetune_vision", "evaluate_vision"), ("vision",)),
    **dict.fromkeys(("generate_responses", "evaluate_alpaca"), ("released",)),
    "evaluate_task": ("amuro_char",),
    **dict.fromkeys(("evaluate_programs", "evaluate_programs_base"), ("docstrings",)),
    "evaluate_benchmarks": ("released", "amuro_char"),
    "finetune_instruct": ("released", "amuro_char", "docstrings"),
    "evaluate_c4_instruct": ("released", "amuro_char", "docstrings"),
}
KINDS = {  # of tasks that a study's recipes are for; "Amuro & Char" names its own
    "controlled": {"language_modelling", "classification"},
    "released": {"chat"},
    "vision": {"image_chat"},
    "docstrings": {"prompted"},
}


def jobs_of(rule: str, catalogue: Catalogue) -> Iterator[SimpleNamespace]:
    """Names of a job of each cost that a rule may have, whether a figure asks for it or not."""
    for name, model in catalogue.settings.models.items():
        controlled = isinstance(model, PretrainedModel)
        if rule not in OF_BOTH and controlled != (rule in OF_CONTROLLED):
            continue
        point = catalogue.checkpoints(name)[-1]  # the largest budget
        names = {"model": name, "checkpoint": point.name}
        if rule in OF_TUNED:
            for study in OF_TUNED[rule]:
                for task, recipe in tunings(study, name, catalogue):
                    yield SimpleNamespace(**names, task=task, recipe=recipe)
        elif rule != "evaluate_task_base" or name == catalogue.settings.amuro_char.ours.model:
            yield SimpleNamespace(**names)


def tunings(study: str, model: str, catalogue: Catalogue) -> list[tuple[str, str]]:
    """Tasks and recipes by which a study tunes a model of its kind."""
    settings = catalogue.settings
    if study == "amuro_char":
        ours = settings.amuro_char.ours
        return [(own.task, own.recipe) for own in ours.tuned.values() if model == ours.model]
    every = (*settings.recipes, *settings.visual_recipes, *settings.instruction_recipes)
    recipes = [recipe for recipe in every if catalogue.study_of_runs(recipe) == study]
    tasks = [name for name, task in settings.tasks.items() if task.kind in KINDS[study]]
    return list(product(tasks, recipes))
