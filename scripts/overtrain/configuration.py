"""The whole configuration with all kinds of figures and tables: what workflow and jobs start from.

Read by the Snakefile at every start and in every cluster job: nothing heavy is imported here.
"""

from __future__ import annotations

from overtrain.config.catalogue import Catalogue
from overtrain.config.check import check
from overtrain.config.errors import typed
from overtrain.config.settings import Settings
from overtrain.figures.kinds import AnyFigure, AnyTable
from overtrain.figures.targets import Targets

Configuration = Settings[AnyFigure, AnyTable]


def catalogue_of(config: dict, paper_task_sets: dict[str, list[str]] | None = None) -> Catalogue:
    """The catalogue of a merged configuration; PipelineError at its first fault of form."""
    return Catalogue(typed(Configuration, config), paper_task_sets)


def checked(config: dict, paper_task_sets: dict[str, list[str]] | None = None) -> Targets:
    """The targets of a merged configuration; PipelineError at its first fault of any kind."""
    catalogue = catalogue_of(config, paper_task_sets)
    check(catalogue)
    targets = Targets(catalogue)
    targets.check()
    return targets
