"""What a kind of figure or table is: its keys in the configuration, what it reads, how it is drawn.

A kind is one class in one module of `overtrain.figures.kinds`, and nothing else knows of it: its
fields are the keys of an entry under `figures` or `tables`, its methods say which files the entry
is made of, what must be so for it to be drawn, and what it prints. What it shares with others is in
`families`. Snakemake imports these modules in every job, so pandas and matplotlib are imported
where something is drawn, never at their top.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from pydantic import Field

from overtrain.config.section import Section, Text
from overtrain.figures.titles import check_filled, filled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import axes, figure

    from overtrain.config import catalogue

# What signatures name, as text: to import it takes a second, or goes in a circle.
Axes: TypeAlias = "axes.Axes"
Catalogue: TypeAlias = "catalogue.Catalogue"
Data: TypeAlias = "pd.DataFrame"
Page: TypeAlias = "figure.Figure"
Drawn: TypeAlias = "tuple[figure.Figure, pd.DataFrame]"  # the page, and the table of what is on it


class Target(Section):
    """An entry of `figures` or `tables`."""

    metrics: ClassVar[set[str]] = set()  # those of the measurements that it reads; none: no file
    selections: ClassVar[set[str]] = set()  # the same
    modification: ClassVar[str | None] = None  # noise, fixed or tuned; then there are statistics
    scaled: ClassVar[bool] = True  # whether what it shows depends on the scale; then it says which

    caption: Text = Field(description="What it shows")

    def measurements(self, catalogue: Catalogue) -> list[str]:
        """The measurement files that it is made of: its own slice and nothing else."""
        return []

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        """The values of further columns that it shows, where its files hold more of them."""
        return {}

    def statistics(self, catalogue: Catalogue) -> dict | None:
        """Settings of the statistics of its rows, if it has a modification."""
        if self.modification is None:
            return None
        settings = catalogue.settings.statistics.plain()
        return settings | {"modification": self.modification}

    def printed(self, catalogue: Catalogue) -> dict:
        """Its settings with names resolved, and every part of the configuration that it prints."""
        scale = catalogue.settings.scale if self.scaled else None
        return self.plain() | {"scale": scale}

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        """(section, name) of each entry of the configuration that the hub may be asked for."""
        return iter(())

    def here(self, catalogue: Catalogue) -> bool:
        """Whether the released numbers that it shows, if any, can be had."""
        return True

    def check(self, where: str, catalogue: Catalogue) -> None:
        """Raise PipelineError if what it names does not exist or cannot be shown.

        where: its place in the configuration.
        """


class Figure(Target):
    """An entry of `figures`; a kind adds `plot`, its own name, and `draw`."""

    title: Text = Field(description="Above the figure")

    def printed(self, catalogue: Catalogue) -> dict:
        title = filled(self.title, self.plain(), catalogue)
        return super().printed(catalogue) | {"title": title}

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        check_filled(f"{where}.title", self.title, self.plain(), catalogue)

    @staticmethod
    @abstractmethod
    def draw(data: Data | None, settings: dict) -> Drawn:
        """The page and the table of what is on it.

        data: the measurements, None for a schematic; settings: what `printed` gives.
        """


class Table(Target):
    """An entry of `tables`; a kind adds `content`, its own name, and `tabulate`."""

    @staticmethod
    @abstractmethod
    def tabulate(data: Data | None, settings: dict) -> Data:
        """The table, with its first column as the index.

        data: the measurements, None for a table of settings; settings: what `printed` gives.
        """
