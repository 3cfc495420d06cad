"""Sharpness, and the loss along a direction, beside what holds to second order."""

import math
from itertools import product

import numpy as np
import pytest
from made_up import MODELS, TASKS, checkpoint, frame, points, settings, sharp, shown, written
from pandas.testing import assert_frame_equal

from overtrain.figures.kinds import FIGURES


def test_sharpness_is_the_rise_by_gamma_squared_beside_half_the_trace():
    first = {("1M", 0.1, 0): 0.03, ("1M", 0.1, 1): 0.05, ("1M", 0.2, 0): 0.2, ("1M", 0.2, 1): 0.2}
    then = {("2M", 0.1, 0): 0.06, ("2M", 0.1, 1): 0.06, ("2M", 0.2, 0): 0.3, ("2M", 0.2, 1): 0.5}
    rows = sharp(first, half=2.0) + sharp(then, half=7.5)  # 2 and 3; 7.5 and 8.5
    figure, table = shown(rows, "sharpness_by_tokens")
    half = table[table.quantity == "half_trace"]
    assert half["mean"].tolist() == [2.5, 8] and half["std"].tolist() == [math.sqrt(0.5)] * 2
    change = table[table.quantity == "loss_change"]
    assert points(change, "gamma") == pytest.approx(
        {(0.1, 1e6): 0.04, (0.2, 1e6): 0.2, (0.1, 2e6): 0.06, (0.2, 2e6): 0.4}
    )
    assert points(change, "gamma", "std")[0.1, 1e6] == pytest.approx(0.01 * math.sqrt(2))
    left, right = figure.axes
    weak, strong, trace = left.lines
    assert weak.get_ydata() == pytest.approx([4, 6])
    assert strong.get_ydata() == pytest.approx([5, 10])
    assert trace.get_ydata().tolist() == [2.5, 8] and trace.get_linestyle() == "--"
    assert trace.get_xdata().tolist() == [1e6, 2e6]
    early, late, one = right.lines
    assert early.get_ydata() == pytest.approx([1.6, 2])
    assert late.get_ydata() == pytest.approx([0.75, 1.25])
    assert early.get_xdata().tolist() == [0.1, 0.2] and set(one.get_ydata()) == {1}
    assert left.get_xlabel() == "pre-training tokens" and "gamma^2" in left.get_ylabel()
    assert left.get_title() == right.get_title() == "Large"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["1M", "2M"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["0.1", "0.2"]
    assert "Tr" in legend.get_texts()[2].get_text()
    figure.canvas.draw()
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["0.1", "0.2"]
    assert right.get_ylim()[0] == 0


def test_models_do_not_share_a_trace():
    values = {("1M", 0.1, 0): 0.04}
    rows = sharp(values, half=2.0) + sharp(values, half=8.0, model="small")
    figure, table = shown(rows, "sharpness_by_tokens", models=MODELS)
    half = table[table.quantity == "half_trace"]
    assert dict(zip(half.model, half["mean"], strict=True)) == {"large": 2.0, "small": 8.0}
    (first,), (second,) = (axis.lines[0].get_ydata() for axis in figure.axes[1::2])
    assert (first, second) == pytest.approx((2, 0.5))


LAMBDAS = {"near": [-0.1, 0, 0.1], "wide": [-1, 0, 1, 2]}


def along(name: str, slope: float, half: float, cubic: float, **where: str) -> list[dict]:
    """Rows of a loss 3 + slope x + half x^2 + cubic x^3."""
    own = checkpoint(name) | {"evaluation": "c4", "selection": "interpolated"} | where
    rows = [own | {"metric": "slope", "value": slope}]
    rows += [own | {"metric": "half_curvature", "value": half}]
    for x in sorted({*LAMBDAS["near"], *LAMBDAS["wide"]}):
        value = 3 + slope * x + half * x**2 + cubic * x**3
        rows.append(own | {"metric": "loss", "lambda": x, "value": value})
    return rows


def test_a_direction_shows_the_loss_and_its_parabola_from_one_point(tmp_path):
    rows = along("1M", 0.5, 2.0, 0.0) + along("2M", -1.0, 8.0, -3.0)
    chosen = {"plot": "loss_along_direction", "tasks": [None], **LAMBDAS}
    own = {key: value for key, value in settings(**chosen).items() if key != "tasks"}
    figure, table = FIGURES["loss_along_direction"].draw(frame(rows), own)
    near, wide = figure.axes
    for axis, (low, high) in ((near, (-0.1, 0.1)), (wide, (-1, 2))):
        lines = axis.lines
        dashed = [line for line in lines if line.get_linestyle() == "--"]
        solid = [line for line in lines if line.get_linestyle() == "-"]
        assert len(dashed) == len(solid) == 2
        for line, (slope, half) in zip(dashed, ((0.5, 2), (-1, 8)), strict=True):
            x = line.get_xdata()
            assert (x.min(), x.max()) == (low, high) and len(x) > 100
            assert line.get_ydata() == pytest.approx(slope * x + half * x**2)
        for line, cubic, other in zip(solid, (0, -3), dashed, strict=True):
            x, y = line.get_xdata(), line.get_ydata()
            on_parabola = np.interp(x, other.get_xdata(), other.get_ydata())
            assert y == pytest.approx(on_parabola + cubic * x**3, abs=1e-3)
            assert y[x == 0].tolist() == [0] and line.get_color() == other.get_color()
    assert wide.get_ylim()[1] < 15 < 8 * 4 - 2  # of the true loss (at most 12), not the parabola
    assert "initial std" in near.get_xlabel() and "nats" in wide.get_ylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["1M", "2M", "second order"]
    own = table[(table.panel == "wide") & (table.tokens == 2e6)]
    assert own["lambda"].tolist() == LAMBDAS["wide"]
    assert own.loss.tolist() == [15, 3, 7, 9] and own.rise.tolist() == [12, 0, 4, 6]
    assert own.second_order.tolist() == [9, 0, 7, 30]
    assert set(own.slope) == {-1.0} and set(own.half_curvature) == {8.0}
    assert_frame_equal(written(tmp_path, rows, **chosen), table, check_dtype=False)


def test_directions_of_models_and_tasks_have_a_row_each():
    rows = [
        row
        for half, (model, task) in enumerate(product(MODELS, TASKS))
        for row in along("1M", 0.0, float(half), 0.0, model=model, task=task)
    ]
    chosen = {"models": MODELS, "tasks": TASKS, **LAMBDAS}
    figure, table = shown(rows, "loss_along_direction", **chosen)
    found = table[table["lambda"] == 2].set_index(["model", "task"]).rise
    assert found.tolist() == [0, 4, 8, 12] and len(figure.axes) == 8
    assert "fine-tuned" in figure.axes[0].get_xlabel()


def test_a_diverged_lambda_leaves_a_gap(tmp_path):
    rows = along("1M", 0.5, 2.0, 0.0, task="first")
    rows[-1] |= {"value": math.nan, "diverged": True}
    table = written(tmp_path, rows, plot="loss_along_direction", **LAMBDAS)
    assert table[table["lambda"] == 2].rise.isna().all() and table.rise.isna().sum() == 1
