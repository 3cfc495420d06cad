"""What the tests of figures share: the configuration, and pages that are closed after each test."""

import copy
from collections.abc import Iterator

import pytest
from configuration import PAPERS

from overtrain.figures.drawing.axes import plt


@pytest.fixture
def config() -> dict:
    """The papers' configuration, to be changed."""
    return copy.deepcopy(PAPERS)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")
