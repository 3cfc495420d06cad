"""A grid of figures: numbers, titles, what a figure by its own name changes."""

import pytest
from configuration import PAPERS, ROOT

from overtrain import PipelineError
from overtrain.config.files import load
from overtrain.config.grids import expanded

GRID = {
    "first": 8,
    "settings": [{"title": "A", "recipe": "a"}, {"title": "B", "row": "B!", "recipe": "b"}],
    "plots": [
        {"title": "one", "plot": "p", "tasks": "all"},
        {"title": "two", "plot": "q", "column": "II"},
    ],
}


def test_figures_are_numbered_row_by_row_and_have_the_keys_of_both():
    found = expanded({"figure_grids": {"paper": {"grid": GRID}}})["figures"]["paper"]
    assert found == {
        "fig08": {"title": "A: one", "recipe": "a", "plot": "p", "tasks": "all"},
        "fig09": {"title": "A: two", "recipe": "a", "plot": "q"},
        "fig10": {"title": "B: one", "recipe": "b", "plot": "p", "tasks": "all"},
        "fig11": {"title": "B: two", "recipe": "b", "plot": "q"},
    }


def test_what_is_said_of_a_figure_by_name_goes_before_its_grid():
    config = {"figure_grids": {"paper": {"grid": GRID}}}
    config["figures"] = {"paper": {"fig09": {"title": "mine"}, "fig01": {"plot": "r"}}}
    found = expanded(config)["figures"]["paper"]
    assert found["fig09"] == {"title": "mine", "recipe": "a", "plot": "q"}
    assert found["fig01"] == {"plot": "r"} and len(found) == 5


def test_figures_30_to_64_are_seven_settings_by_five_plots():
    figures = load(ROOT, {}).config["figures"]["overtrained"]
    grid = PAPERS["figure_grids"]["overtrained"]["controlled"]
    assert (len(grid["settings"]), len(grid["plots"])) == (7, 5)
    assert (
        figures["fig37"]["title"]
        == "Batch size {batch_size}: held-out text at the tuned learning rate"
    )
    assert (figures["fig64"]["models"], figures["fig64"]["plot"]) == (
        "large",
        "optimal_rate_by_tokens",
    )
    assert "fig65" in figures and figures["fig65"]["plot"] == "noise_by_tokens"


def test_a_fault_of_a_grid_is_one_line():
    with pytest.raises(PipelineError) as caught:
        expanded({"figure_grids": {"paper": {"grid": GRID | {"first": 0}}}})
    assert str(caught.value).startswith("figure_grids.paper.grid.first is 0; it must be at least 1")


@pytest.mark.parametrize(
    ("grid", "line"),
    [
        (GRID | {"settings": [{"recipe": "a"}]}, "settings.0.title is null; it must be of type"),
        (GRID | {"plots": [{"title": 3}]}, "plots.0.title is 3; it must be of type string"),
    ],
)
def test_a_part_of_a_grid_has_a_title(grid, line):
    with pytest.raises(PipelineError) as caught:
        expanded({"figure_grids": {"paper": {"grid": grid}}})
    assert f"figure_grids.paper.grid.{line}" in str(caught.value)


def test_a_grid_makes_no_figure_that_is_another():
    config = {
        "figure_grids": {"paper": {"grid": GRID}},
        "figures": {"paper": {"fig09": {"plot": "r"}}},
    }
    with pytest.raises(PipelineError, match=r"figures.paper.fig09 is a figure of its own; a grid"):
        expanded(config)
