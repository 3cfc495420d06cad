"""Every kind of figure, here, and of table, in `tables`: a module each, found by its being here.

A module declares one class, whose name of its own is the only value of `plot` (a figure's) or
`content` (a table's).
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Union, get_args

from pydantic import Field

from overtrain import PipelineError
from overtrain.figures.kind import Figure, Table, Target
from overtrain.figures.kinds import tables


def discovered(package: str, folders: list[str], base: type[Target], key: str) -> dict[str, type]:
    """The kind that each module of a package declares, by its name: the value of `key`."""
    found: dict[str, type] = {}
    for module in iter_modules(folders):
        if module.ispkg:
            continue
        own = import_module(f"{package}.{module.name}")
        for kind in vars(own).values():
            if isinstance(kind, type) and issubclass(kind, base) and key in kind.model_fields:
                (name,) = get_args(kind.model_fields[key].annotation)
                if name in found:
                    other = found[name].__module__.rpartition(".")[2]
                    raise PipelineError(
                        f"{package}: {module.name}.py and {other}.py both declare {key} {name!r}"
                    )
                found[name] = kind
    return found


FIGURES: dict[str, type[Figure]] = discovered(__name__, __path__, Figure, "plot")
TABLES: dict[str, type[Table]] = discovered(tables.__name__, tables.__path__, Table, "content")

if TYPE_CHECKING:
    AnyFigure = Figure
    AnyTable = Table
else:  # an entry of `figures` or `tables`, told by its `plot` or `content`
    AnyFigure = Annotated[Union[tuple(FIGURES.values())], Field(discriminator="plot")]  # noqa: UP007
    AnyTable = Annotated[Union[tuple(TABLES.values())], Field(discriminator="content")]  # noqa: UP007
