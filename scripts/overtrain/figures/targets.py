"""What each figure and table depends on, as the rules ask for it.

A slice is exactly what a result depends on beside its files, as one sorted JSON string: Snakemake
compares parameters by their text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from overtrain.config import paths
from overtrain.config.errors import known
from overtrain.config.section import dumps

if TYPE_CHECKING:
    from overtrain.config.catalogue import Catalogue
    from overtrain.figures.kind import Figure, Table, Target

Kind = Literal["figures", "tables"]
SUFFIX: dict[Kind, str] = {"figures": "pdf", "tables": "md"}  # of the file that stands for one
FIRST = "overtrained"  # the paper whose targets go by their own names


class Targets:
    """The figures and tables of a configuration, by paper and name."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self.figures: dict[str, dict[str, Figure]] = catalogue.settings.figures
        self.tables: dict[str, dict[str, Table]] = catalogue.settings.tables

    def targets(self, kind: Kind, here: bool = False) -> Iterator[tuple[str, str]]:
        """(paper, target) of every figure or table.

        here: only those whose released numbers can be had.
        """
        for paper, own in getattr(self, kind).items():
            for name, target in own.items():
                if not here or target.here(self.catalogue):
                    yield paper, name

    def files(self, kind: Kind, paper: str | None = None, here: bool = False) -> list[str]:
        """The file that stands for each figure or table, of one paper or of all."""
        own = [entry for entry in self.targets(kind, here) if paper in (None, entry[0])]
        return [f"results/{kind}/{owner}/{name}.{SUFFIX[kind]}" for owner, name in own]

    def aliases(self) -> dict[str, list[str]]:
        """What a person may ask for by a name, and the files that it stands for.

        The first paper's targets go by their own names (fig05, table3), others' with the paper
        before it (amuro_char_fig05), and all of a paper by its own (amuro_char_figures).
        """
        found = {}
        for kind in SUFFIX:
            for paper in getattr(self, kind):
                found[f"{paper}_{kind}"] = self.files(kind, paper)
            for (paper, name), file in zip(self.targets(kind), self.files(kind), strict=True):
                found[name if paper == FIRST else f"{paper}_{name}"] = [file]
        for paper, own in self.catalogue.settings.restated.items():
            for name, target in own.items():
                known(f"restated.{paper}.{name}", target, "the targets", found, "have")
                found[f"{paper}_{name}"] = found[target]
        return found

    def target(self, paper: str, name: str) -> Target:
        """A figure or, where no figure has the name, a table."""
        figures = self.figures.get(paper, {})
        return figures[name] if name in figures else self.tables[paper][name]

    def check(self) -> None:
        """Raise PipelineError at the first target that names what is not there."""
        for kind in SUFFIX:
            for paper, name in self.targets(kind):
                target = getattr(self, kind)[paper][name]
                target.check(f"{kind}.{paper}.{name}", self.catalogue)

    # --- what the hub is asked for ---

    @cached_property
    def sources(self) -> dict[str, dict]:
        """What the figures need of the hub, by the key of the configuration that names it."""
        figures = (figure for own in self.figures.values() for figure in own.values())
        named = {entry for figure in figures for entry in figure.sources(self.catalogue)}
        asked = (self.catalogue.sources_of(*entry) for entry in sorted(named))
        return {key: source for found in asked for key, source in found.items()}

    def check_first(self) -> list[str]:
        """What is made before all figures: the answers of the hub, if any of them needs it."""
        return ["results/sources.json"] if self.sources else []

    def sources_slice(self) -> str:
        """By its hash: Snakemake prints what has changed, and the answers name all sources."""
        digest = hashlib.sha256(dumps(self.sources).encode()).hexdigest()
        return dumps({"sources": digest} | self.catalogue.settings.sources.plain())

    # --- what each is made of ---

    def measurements(self, paper: str, name: str) -> list[str]:
        """The measurement files that a target is made of."""
        return self.target(paper, name).measurements(self.catalogue)

    def aggregate_slice(self, paper: str, name: str) -> str:
        """What an aggregate depends on: its measurements, which of their rows, what for."""
        target = self.target(paper, name)
        rows = {"metric": sorted(target.metrics), "selection": sorted(target.selections)}
        return dumps(
            {
                "measurements": target.measurements(self.catalogue),
                "rows": rows | target.only(self.catalogue),
                "statistics": target.statistics(self.catalogue),
            }
        )

    def figure_slice(self, paper: str, figure: str) -> str:
        """A figure's settings with its names resolved, and the titles that it prints."""
        return dumps(self.figures[paper][figure].printed(self.catalogue))

    def table_slice(self, paper: str, table: str) -> str:
        """A table's settings and every part of the configuration that it prints."""
        return dumps(self.tables[paper][table].printed(self.catalogue))

    def figure_aggregate(self, paper: str, figure: str) -> list[str]:
        """The aggregate of a figure of measurements; a schematic has none."""
        return [paths.aggregate(paper, figure)] if self.figures[paper][figure].metrics else []

    def table_aggregate(self, paper: str, table: str) -> list[str]:
        """The aggregate of a table of measurements; a table of settings has none."""
        return [paths.aggregate(paper, table)] if self.tables[paper][table].metrics else []
