"""Titles as figures and indexes print them: with names filled in, and what stand-ins stand for."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from overtrain import PipelineError

if TYPE_CHECKING:
    from overtrain.config.catalogue import Catalogue

WIDTH = 36  # characters across a panel


def filled(title: str, named: dict[str, Any], catalogue: Catalogue) -> str:
    """A title with {models}, {tasks} and what the recipe says ({batch_size} ...) filled in.

    named: `models`, `tasks` and `recipe` of a figure, as far as it has them.
    """
    words = recipe_words(named, catalogue)
    if "models" in named:
        models = catalogue.names("models", named["models"])
        words["models"] = ", ".join(catalogue.settings.models[name].title for name in models)
    if "tasks" in named:
        titles = task_titles(named["tasks"], catalogue).values()
        words["tasks"] = ", ".join(title.replace("\n", " ") for title in titles)
    return title.format_map(words)


def recipe_words(named: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """What a title may say of the recipe of sweeps that is named, if one is."""
    recipe = catalogue.settings.recipes.get(named.get("recipe", ""))
    return recipe.plain() if recipe else {}


def check_filled(where: str, title: str, named: dict[str, Any], catalogue: Catalogue) -> None:
    """What a title names in braces must be there to be filled in."""
    try:
        filled(title, named, catalogue)
    except (KeyError, IndexError, ValueError):
        known = ["models", "tasks", *recipe_words(named, catalogue)]
        raise PipelineError(
            f"{where} is {title!r}; in braces it may name {', '.join(known)}"
        ) from None


def task_titles(tasks: str | list[str], catalogue: Catalogue) -> dict[str, str]:
    """Titles of a set of tasks; a stand-in's says for which task of the paper's set it stands."""
    papers = catalogue.paper_task_sets.get(tasks, []) if isinstance(tasks, str) else tasks
    return stand_in_titles(catalogue.names("tasks", tasks), papers, catalogue)


def stand_in_titles(names: list[str], papers: list[str], catalogue: Catalogue) -> dict[str, str]:
    """Titles of the tasks `names`; a stand-in's says for which of the `papers`' it stands.

    Of several that may stand in for a task, the one that lists it first does.
    """
    known = catalogue.settings.tasks
    places = {name: known[name].stands_for or [] for name in names}
    titles = {}
    for name, own in places.items():
        mine = [
            known[task].title
            for i, task in enumerate(own)
            if task in papers and not any(task in other[:i] for other in places.values())
        ]
        lines = textwrap.wrap(f"(for {', '.join(mine)})", WIDTH) if mine else []
        titles[name] = "\n".join([known[name].title, *lines])
    return titles
