"""Tables 5, 6: which figure shows which setting (rows) by which plot (columns)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config.section import Section, Text
from overtrain.figures.kind import Table
from overtrain.figures.titles import check_filled, filled

if TYPE_CHECKING:
    import pandas as pd

    from overtrain.config.catalogue import Catalogue

Match = Annotated[dict[str, Any], Field(min_length=1)]
Title = Annotated[Text, Field(description="May hold {models} and keys of the recipe")]


class Column(Section):
    """Figures that have some keys in common."""

    title: Title
    match: Match = Field(description="Keys of figures and their values")


class Row(Section):
    """The same; or none, for figures that are not drawn."""

    title: Title
    match: Match | None = Field(description="Keys of figures and their values; null: no figure")


class FigureIndex(Table):
    """A cell names the figures that have all keys of its row's and its column's `match`."""

    content: Literal["figure_index"]
    rows: list[Row] = Field(min_length=1)
    columns: list[Column] = Field(min_length=1)

    def cells(self, catalogue: Catalogue) -> Iterator[tuple[Row, Column, list[str]]]:
        """(row, column, names of figures) of every cell, row by row."""
        own = catalogue.settings.figures[self.paper(catalogue)]
        figures = {n: f.model_dump(mode="json", exclude_none=True) for n, f in own.items()}
        for row in self.rows:
            for column in self.columns:
                if row.match is None:
                    yield row, column, []
                    continue
                match = (row.match | column.match).items()
                found = [
                    name
                    for name, settings in figures.items()
                    if all(settings.get(key) == value for key, value in match)
                ]
                yield row, column, sorted(found)

    def paper(self, catalogue: Catalogue) -> str:
        """The paper whose table it is."""
        papers = catalogue.settings.tables.items()
        return next(name for name, own in papers if any(self is table for table in own.values()))

    def printed(self, catalogue: Catalogue) -> dict:
        return super().printed(catalogue) | {
            "cells": [found for _, _, found in self.cells(catalogue)],
            "rows": [filled(e.title, e.match or {}, catalogue) for e in self.rows],
            "columns": [filled(e.title, e.match, catalogue) for e in self.columns],
        }

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        for row, column, figures in self.cells(catalogue):
            if not figures and row.match is not None:
                raise PipelineError(
                    f"{where}: no figure of {self.paper(catalogue)} has all of "
                    f"{json.dumps(row.match)} and {json.dumps(column.match)} "
                    f"(row {row.title!r}, column {column.title!r})"
                )
        for entry in (*self.rows, *self.columns):
            check_filled(f"{where}: a title", entry.title, entry.match or {}, catalogue)

    @staticmethod
    def tabulate(data: None, settings: dict) -> pd.DataFrame:
        import pandas as pd

        cells = [", ".join(map(figure_name, names)) or "-" for names in settings["cells"]]
        width = len(settings["columns"])
        rows = [cells[i : i + width] for i in range(0, len(cells), width)]
        return pd.DataFrame(rows, settings["rows"], settings["columns"]).rename_axis("Setting")


def figure_name(target: str) -> str:
    """fig07 -> Figure 7; other names stay."""
    number = target.removeprefix("fig")
    return f"Figure {int(number)}" if number.isdigit() else target
