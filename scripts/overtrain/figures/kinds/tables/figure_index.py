"""Tables 5, 6: which figure shows which setting (rows) by which plot (columns)."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from overtrain import PipelineError
from overtrain.config.errors import known
from overtrain.config.section import Section, Text
from overtrain.figures.kind import Catalogue, Data, Table
from overtrain.figures.titles import check_filled, filled


class Entry(Section):
    """A row or a column: figures that have some keys in common."""

    title: Text = Field(description="May hold {models}, {tasks} and keys of the recipe")
    match: Annotated[dict[str, Any], Field(min_length=1)] | None = Field(
        description="Keys of figures and their values; null: no figure"
    )

    def filled(self, catalogue: Catalogue) -> str:
        return filled(self.title, self.match or {}, catalogue)


class FigureIndex(Table):
    """Of a grid, or of any figures: those that have all keys of a row's and a column's `match`."""

    content: Literal["figure_index"]
    grid: Text | None = Field(
        default=None,
        description="A key of the paper's figure_grids; its settings are rows, its plots columns",
    )
    rows: list[Entry] = Field(default=[], description="Without a grid")
    columns: list[Entry] = Field(default=[], description="Without a grid")

    @model_validator(mode="after")
    def of_one_or_the_other(self) -> FigureIndex:
        if bool(self.grid) == bool(self.rows) or bool(self.rows) != bool(self.columns):
            raise ValueError("grid is missing; an index needs it, or else rows and columns")
        return self

    def laid_out(self, catalogue: Catalogue) -> tuple[list[Entry], list[Entry], list[list[str]]]:
        """Rows, columns, and the names of the figures of each cell, row by row."""
        paper = self.paper(catalogue)
        figures = catalogue.settings.figures.get(paper, {})
        if self.grid is None:
            settings = {name: figure.plain() for name, figure in figures.items()}
            pairs = [(row, column) for row in self.rows for column in self.columns]
            return self.rows, self.columns, [matching(*pair, settings) for pair in pairs]
        grid = catalogue.settings.figure_grids[paper][self.grid]
        rows = [entry(part, "row") for part in grid.settings]
        columns = [entry(part, "column") for part in grid.plots]
        return rows, columns, [[name] if name in figures else [] for name, _, _ in grid.cells()]

    def paper(self, catalogue: Catalogue) -> str:
        """The paper whose table it is."""
        papers = catalogue.settings.tables.items()
        return next(name for name, own in papers if any(self is table for table in own.values()))

    def printed(self, catalogue: Catalogue) -> dict:
        rows, columns, cells = self.laid_out(catalogue)
        return super().printed(catalogue) | {
            "cells": cells,
            "rows": [row.filled(catalogue) for row in rows],
            "columns": [column.filled(catalogue) for column in columns],
        }

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        paper = self.paper(catalogue)
        if self.grid is not None:
            grids = catalogue.settings.figure_grids.get(paper, {})
            known(f"{where}.grid", self.grid, f"figure_grids.{paper}", grids)
        rows, columns, cells = self.laid_out(catalogue)
        pairs = [(row, column) for row in rows for column in columns]
        for (row, column), figures in zip(pairs, cells, strict=True):
            left_out = self.grid is not None or row.match is None or column.match is None
            if not figures and not left_out:
                raise PipelineError(
                    f"{where}: no figure of {paper} has all of {json.dumps(row.match)} and "
                    f"{json.dumps(column.match)} (row {row.title!r}, column {column.title!r})"
                )
        for entry in (*rows, *columns):
            check_filled(f"{where}: a title", entry.title, entry.match or {}, catalogue)

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        cells = [", ".join(map(figure_name, names)) or "-" for names in settings["cells"]]
        width = len(settings["columns"])
        rows = [cells[i : i + width] for i in range(0, len(cells), width)]
        return pd.DataFrame(rows, settings["rows"], settings["columns"]).rename_axis("Setting")


def entry(part: dict[str, Any], key: str) -> Entry:
    """A setting or plot of a grid, by the title that the index has for it."""
    return Entry(title=part[key if key in part else "title"], match=part)


def matching(row: Entry, column: Entry, figures: dict[str, dict]) -> list[str]:
    """Names of the figures, of settings by name, that have all keys of both."""
    if row.match is None or column.match is None:
        return []
    match = (row.match | column.match).items()
    return sorted(
        name
        for name, settings in figures.items()
        if all(settings.get(key) == value for key, value in match)
    )


def figure_name(target: str) -> str:
    """fig07 -> Figure 7; other names stay."""
    number = target.removeprefix("fig")
    return f"Figure {int(number)}" if number.isdigit() else target
