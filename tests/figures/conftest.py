"""What the tests of figures share: the configuration, and pages that are closed after each test."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overtrain.config.files import load
from overtrain.configuration import catalogue_of
from overtrain.figures.drawing.axes import plt
from overtrain.figures.targets import Targets

LAYERS = load(Path(__file__).parents[2], {})


@pytest.fixture
def config() -> dict:
    """The papers' configuration, to be changed."""
    return copy.deepcopy(LAYERS.config)


@pytest.fixture(scope="session")
def targets_of() -> Callable[[dict], Targets]:
    """Figures and tables of a configuration, whose stand-ins stand for the papers' tasks."""
    return lambda config: Targets(catalogue_of(config, LAYERS.paper_task_sets))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")
