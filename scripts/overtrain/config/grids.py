"""Figures that are a grid: the same plots of several settings, numbered row by row (Figs 30-64).

    figure_grids:
      overtrained:
        controlled:
          first: 30
          settings: [{title: "Batch size {batch_size}", models: main, recipe: batch256}]
          plots: [{title: tuned learning rate, plot: optimal_rate_by_tokens, tasks: all}]

makes fig30 of the first setting and the first plot, fig31 of the first setting and the second plot,
and so on; each has the keys of both, and the title "setting: plot". A setting's `row` and a plot's
`column` are what an index of the grid (Table 6) calls them, where that is not their title.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from overtrain import PipelineError
from overtrain.config.errors import typed
from overtrain.config.section import Count, Section


def titled(part: dict[str, Any]) -> dict[str, Any]:
    """The part, if what grids make titles of is text."""
    for key in ("title", *({"row", "column"} & part.keys())):
        if not isinstance(part.get(key), str) or not part[key]:
            raise ValueError(f"{key} is {json.dumps(part.get(key))}; it must be of type string")
    return part


# Keys of a figure, checked as such once they are together.
Part = Annotated[dict[str, Any], AfterValidator(titled)]


class Grid(Section):
    first: Count = Field(description="Number of the first figure")
    settings: list[Part] = Field(min_length=1, description="Rows of the grid")
    plots: list[Part] = Field(min_length=1, description="Columns of the grid")

    def cells(self) -> Iterator[tuple[str, Part, Part]]:
        """(figure, setting, plot), row by row."""
        pairs = ((setting, plot) for setting in self.settings for plot in self.plots)
        for number, (setting, plot) in enumerate(pairs, self.first):
            yield f"fig{number:02d}", setting, plot

    def figures(self) -> dict[str, Part]:
        return {
            name: without(plot, "column")
            | without(setting, "row")
            | {"title": f"{setting['title']}: {plot['title']}"}
            for name, setting, plot in self.cells()
        }


def without(part: Part, key: str) -> Part:
    return {name: value for name, value in part.items() if name != key}


class Grids(Section):
    """The section, read before the others: figures are made of it."""

    figure_grids: dict[str, dict[str, Grid]] = Field(default={}, description="By paper and name")


def expanded(config: dict) -> dict:
    """`config` with each grid's figures; what it says of one by name goes before the grid.

    What is no mapping stays as it is: the types say so.
    """
    if not isinstance(figures := config.get("figures", {}), dict):
        return config
    figures = dict(figures)
    own = {key: config[key] for key in Grids.model_fields if key in config}
    for paper, grids in typed(Grids, own).figure_grids.items():
        made = {name: entry for grid in grids.values() for name, entry in grid.figures().items()}
        if isinstance(given := figures.get(paper, {}), dict):
            for name, entry in given.items():
                if name in made and isinstance(entry, dict) and "plot" in entry:
                    raise PipelineError(
                        f"figures.{paper}.{name} is a figure of its own; a grid of "
                        f"figure_grids.{paper} makes one of that name, too"
                    )
            figures[paper] = made | {
                name: made.get(name, {}) | entry if isinstance(entry, dict) else entry
                for name, entry in given.items()
            }
    return config | {"figures": figures}
