"""Axes of tokens, and grids of panels."""

import pytest

from overtrain.figures.drawing import axes


@pytest.mark.parametrize(
    ("budgets", "labels"),
    [
        ([4, 8, 16, 32, 64, 128], ["4B", "8B", "16B", "32B", "64B", "128B"]),
        ([41, 494, 1501, 1874, 2353, 3094], ["41B", "494B", "1.87T", "3.09T"]),
        ([3, 3], ["3B"]),
    ],
)
def test_budgets_too_near_each_other_keep_their_tick_without_a_label(budgets, labels):
    figure, panels = axes.grid(1, 1)
    axes.token_axis(panels[0, 0], [b * 1e9 for b in budgets])
    figure.draw_without_rendering()
    texts = [label.get_text() for label in panels[0, 0].get_xticklabels()]
    assert len(texts) == len(set(budgets))
    assert [text for text in texts if text] == labels


@pytest.mark.parametrize(
    ("rows", "columns", "page"),
    [
        (1, 3, (1, 3)),
        (1, 5, (1, 5)),
        (1, 6, (2, 3)),
        (1, 7, (2, 4)),
        (1, 10, (2, 5)),
        (1, 11, (3, 4)),
        (2, 6, (2, 6)),
    ],
)
def test_one_long_row_is_wrapped_and_what_is_left_over_removed(rows, columns, page):
    figure, axes_ = axes.grid(rows, columns)
    assert axes_.shape == (rows, columns)
    assert list(axes_.flat) == figure.axes and len(figure.axes) == rows * columns
    layout = axes_[0, 0].get_subplotspec().get_gridspec()
    assert (layout.nrows, layout.ncols) == page
