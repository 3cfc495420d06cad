"""Which stage of `resources` a rule asks for, which rules share a group, and all jobs that may be.

Only what a limit is checked by; the rules themselves say the same, and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
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
}
FOLLOWING = {rule for rules in FOLLOWERS.values() for rule in rules}

CONTROLLED_KINDS = {"language_modelling", "classification"}  # of tasks
OF_BOTH = {"perturb_gaussian"}  # rules for models pre-trained here and for released ones
OF_CONTROLLED = {"pretrain", "finetune", "evaluate_id", "evaluate_c4"}
OF_CONTROLLED |= {"measure_sharpness", "interpolate_gaussian"}
OF_SWEEPS = {"finetune", "evaluate_id", "evaluate_c4"}
OF_RUNS = {"finetune_instruct", "evaluate_alpaca"}
OF_RUNS |= {"generate_responses", "evaluate_benchmarks", "evaluate_c4_instruct"}
OF_VISUAL_RUNS = {"align_projector", "finetune_vision", "evaluate_vision"}


def jobs_of(rule: str, catalogue: Catalogue) -> Iterator[SimpleNamespace]:
    """Names of a job of each cost that a rule may have, whether a figure asks for it or not."""
    settings = catalogue.settings
    for name, model in settings.models.items():
        controlled = isinstance(model, PretrainedModel)
        if rule not in OF_BOTH and controlled != (rule in OF_CONTROLLED):
            continue
        visual = rule in OF_VISUAL_RUNS
        kinds = {"image_chat"} if visual else {"chat"} if not controlled else CONTROLLED_KINDS
        tasks = [t for t, task in settings.tasks.items() if task.kind in kinds]
        for point in catalogue.checkpoints(name)[-1:]:  # the largest budget
            names = {"model": name, "checkpoint": point.name}
            if rule in OF_SWEEPS or rule in OF_RUNS or visual:
                tuned = settings.visual_recipes if visual else settings.instruction_recipes
                recipes = settings.recipes if controlled else tuned
                for task in tasks:
                    for recipe in recipes:
                        yield SimpleNamespace(**names, task=task, recipe=recipe)
            else:
                yield SimpleNamespace(**names)
