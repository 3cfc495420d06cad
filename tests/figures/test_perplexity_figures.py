"""Figures by tokens and rates: means over seeds, changes from the base, choices of a rate."""

import math
from itertools import product

import numpy as np
import pytest
from made_up import MODELS, TASKS, distances, drawn, frame, many, noise, points, shown, sweep

from overtrain.figures.drawing.summaries import best_rates
from overtrain.figures.kinds.learning_rates_by_tokens import rates_kept


def test_noise_is_the_mean_change_from_the_own_checkpoints_base_over_all_seeds():
    values = {("1M", 0.1, 0): 11.0, ("1M", 0.1, 1): 13.0, ("1M-seed1", 0.1, 0): 19.0}
    values |= {("2M", 0.1, 0): 12.0, ("2M", 0.02, 0): 8.5}
    table = drawn(noise(values), plot="noise_by_tokens")
    assert points(table, "gamma") == {(0.1, 1e6): 3.0, (0.1, 2e6): 4.0, (0.02, 2e6): 0.5}
    assert points(table, "gamma", "std")[0.1, 1e6] == np.std([1, 3, 5], ddof=1)
    assert points(table, "gamma", "std")[0.1, 2e6] == 0.0
    assert points(table, "gamma", "seeds")[0.1, 1e6] == 3


def test_noise_as_it_is_comes_with_the_base_as_gamma_zero():
    values = {("1M", 0.1, 0): 11.0, ("1M", 0.1, 1): 13.0, ("1M-seed1", 0.1, 0): 18.0}
    table = drawn(noise(values), plot="noise_by_tokens", panels=["absolute"])
    assert points(table, "gamma") == {(0.1, 1e6): 14.0, (0.0, 1e6): 12.0}  # bases 10 and 14


def test_models_do_not_share_a_base():
    other = noise({("1M", 0.1, 0): 20.0}, model="small")
    for row in other:
        row["value"] = row["value"] * (1.5 if row["selection"] == "base" else 1)  # base 15
    table = drawn(noise({("1M", 0.1, 0): 11.0}) + other, "noise_by_tokens", models=MODELS)
    found = dict(zip(table.panel, table["mean"], strict=True))
    assert found == {"large change": 1.0, "small change": 5.0}


def test_learning_rates_are_means_over_seeds_of_reported_splits_only():
    values = {("1M", 1e-3, 0): 11.0, ("1M", 1e-3, 1): 15.0, ("2M", 1e-3, 0): 9.0}
    rows = sweep(values) + sweep({("1M", 1e-3, 0): 3.0}, "id", "test")
    rows += sweep({("1M", 1e-3, 0): 99.0}, "id", "validation")
    rows += sweep({("1M", 1e-3, 0): 77.0}, task="second")
    cells = product(("c4", "id"), ("change", "absolute"))
    ask = [{"evaluation": evaluation, "quantity": quantity} for evaluation, quantity in cells]
    table = drawn(rows, plot="learning_rates_by_tokens", rows=ask)

    def cell(evaluation: str, quantity: str) -> dict[tuple, float]:
        chosen = (table.evaluation == evaluation) & (table.quantity == quantity)
        return points(table[chosen], "learning_rate")

    assert cell("c4", "change") == {(1e-3, 1e6): 3.0, (1e-3, 2e6): 1.0}
    absolute = {(1e-3, 1e6): 13.0, (1e-3, 2e6): 9.0, (0.0, 1e6): 10.0, (0.0, 2e6): 8.0}
    assert cell("c4", "absolute") == absolute
    assert cell("id", "change") == {(1e-3, 1e6): -7.0}
    assert cell("id", "absolute") == {(1e-3, 1e6): 3.0, (0.0, 1e6): 10.0}


@pytest.mark.parametrize(
    ("bad", "cut", "kept"),
    [
        (math.exp(2.9), 3.0, {1e-3, 1e-2}),
        (math.exp(3.1), 3.0, {1e-3}),  # above it at one budget, for one seed's mean
        (math.exp(3.1), None, {1e-3, 1e-2}),
        (math.nan, 3.0, {1e-3}),  # a diverged run is above any cut
        (math.nan, None, {1e-3, 1e-2}),
    ],
)
def test_a_rate_is_cut_at_every_budget_if_its_loss_is_too_large_at_any(bad, cut, kept):
    values = {(c, rate, 0): 9.0 for c in ("1M", "2M") for rate in (1e-3, 1e-2)}
    rows = sweep(values | {("1M", 1e-2, 0): bad})
    assert set(rates_kept(frame(rows), cut).learning_rate) == kept
    table = drawn(rows, plot="learning_rates_by_tokens", largest_loss=cut)
    assert set(table.learning_rate) == kept
    assert len(table) == 2 * len(kept)


def test_the_cut_is_on_the_mean_over_seeds_and_separate_for_each_task():
    values = {("1M", 1e-2, 0): math.exp(2.0), ("1M", 1e-2, 1): math.exp(3.9)}
    rows = sweep(values) + sweep(values | {("1M", 1e-2, 2): math.exp(4.0)}, task="second")
    kept = rates_kept(frame(rows), 3.0)
    assert kept.to_dict("records") == [{"model": "large", "task": "first", "learning_rate": 1e-2}]


def test_the_tuned_rate_is_chosen_on_validation_and_reported_on_test():
    validation = {("1M", 1e-3, 0): 5.0, ("1M", 1e-3, 1): 7.0, ("1M", 1e-2, 0): 1.0}
    validation |= {("1M", 1e-2, 1): 20.0, ("1M", 3e-2, 0): 0.5, ("1M", 3e-2, 1): math.nan}
    validation |= {("2M", 1e-3, 0): 5.0, ("2M", 1e-2, 0): 4.0}
    test = {key: 30 + i for i, key in enumerate(validation)}
    web = {key: 50 + i for i, key in enumerate(validation)}
    rows = sweep(validation, "id", "validation") + sweep(test, "id", "test") + sweep(web)
    best = best_rates(frame(rows))
    assert dict(zip(best.checkpoint, best.learning_rate, strict=True)) == {"1M": 1e-3, "2M": 1e-2}
    ask = [{"evaluation": e, "quantity": "absolute"} for e in ("c4", "id")]
    table = drawn(rows, plot="tuned_by_tokens", rows=ask)
    found = {(r["evaluation"], r["tokens"]): r["mean"] for r in table.to_dict("records")}
    assert found == {("c4", 1e6): 50.5, ("c4", 2e6): 57, ("id", 1e6): 30.5, ("id", 2e6): 37}


def test_a_tuned_budget_is_one_point_also_where_pretraining_seeds_differ_in_their_best_rate():
    values = {("1M", 1e-3, 0): 5.0, ("1M", 1e-2, 0): 6.0}
    values |= {("1M-seed1", 1e-3, 0): 6.0, ("1M-seed1", 1e-2, 0): 5.0}
    rows = sweep(values, "id", "validation") + sweep(values)
    ask = [{"evaluation": "c4", "quantity": "absolute"}]
    table = drawn(rows, plot="tuned_by_tokens", rows=ask)
    assert table[["tokens", "mean", "seeds"]].to_numpy().tolist() == [[1_000_000, 5.0, 2]]


def optimal(values: dict[tuple, float], *others: dict) -> list[dict]:
    rows = [*sweep(values, "id", "validation"), *others]
    return drawn(rows, "optimal_rate_by_tokens", rows=[{}]).to_dict("records")


def test_the_optimal_rate_is_the_tuned_one_beside_what_each_seed_would_choose():
    values = {("1M", 1e-3, 0): 5.0, ("1M", 1e-2, 0): 9.0, ("1M", 1e-1, 0): 6.0}
    values |= {("1M", 1e-3, 1): 6.0, ("1M", 1e-2, 1): 3.0, ("1M", 1e-1, 1): 2.5}
    values |= {("1M", 1e-3, 2): 9.0, ("1M", 1e-2, 2): 4.0, ("1M", 1e-1, 2): 5.0}
    (point,) = optimal(values)  # means 6.67, 5.33, 4.5; alone 1e-3, 1e-1, 1e-2
    assert point["learning_rate"] == 1e-1 and point["bound"] == "highest"
    assert point["mean"] == pytest.approx(1e-2) and point["std"] == pytest.approx(10)
    assert point["seeds"] == 3
    values |= {("1M", 1e-1, 1): math.nan}  # a rate with a diverged run is not chosen for all
    (point,) = optimal(values)
    assert point["learning_rate"] == pytest.approx(1e-2) and point["bound"] == "none"
    assert point["mean"] == pytest.approx(10 ** (-7 / 3))  # alone 1e-3, 1e-2, 1e-2


def test_the_optimal_rate_is_chosen_on_validation_only():
    reported = {("1M", 1e-3, 0): 5.0, ("1M", 1e-2, 0): 1.0}
    others = [*sweep(reported, "id", "test"), *sweep(reported, "c4", "held_out")]
    (point,) = optimal({("1M", 1e-3, 0): 5.0, ("1M", 1e-2, 0): 6.0}, *others)
    assert point["learning_rate"] == pytest.approx(1e-3) and point["bound"] == "lowest"


def test_the_optimal_rate_of_several_pretraining_seeds_is_their_geometric_mean():
    values = {("1M", 1e-3, 0): 5.0, ("1M", 1e-1, 0): 6.0, ("1M", 1e-4, 0): 9.0}
    values |= {("1M-seed1", 1e-3, 0): 6.0, ("1M-seed1", 1e-1, 0): 5.0}
    (point,) = optimal(values)
    assert point["learning_rate"] == pytest.approx(1e-2) and point["seeds"] == 2
    assert point["bound"] == "highest"  # one of the two is only a bound


def test_rates_at_an_end_of_the_sweep_are_hollow_and_what_is_beyond_is_grey():
    values = {(c, r, 0): 5.0 for c in ("1M", "2M") for r in (1e-3, 1e-2, 1e-1)}
    values |= {("1M", 1e-2, 0): 4.0, ("2M", 1e-3, 0): 4.0}
    rows = sweep(values, "id", "validation")
    figure, table = shown(rows, "optimal_rate_by_tokens", rows=[{}])
    assert list(table.bound) == ["none", "lowest"]
    axis = figure.axes[0]
    (points_,) = [c for c in axis.collections if len(c.get_offsets()) == 2]
    filled = [tuple(face[:3]) != (1, 1, 1) for face in points_.get_facecolors()]
    assert filled == [True, False]
    low, high = axis.get_ylim()
    assert low < 1e-3 and high > 1e-1
    spans = sorted(
        p.get_extents().transformed(axis.transData.inverted()).intervaly.tolist()
        for p in axis.patches
    )
    assert np.allclose(spans, [[low, 1e-3], [1e-1, high]])


def test_distances_are_means_by_budget_and_rate():
    values = {("1M", 1e-3, 0): 1.0, ("1M", 1e-3, 1): 2.0, ("2M", 1e-3, 0): 5.0}
    table = drawn(distances(values), plot="distance_by_learning_rate")
    assert points(table, "learning_rate") == {(1e-3, 1e6): 1.5, (1e-3, 2e6): 5.0}


def test_models_of_one_text_have_a_panel_each_with_its_own_range():
    large = noise({("1M", 0.1, 0): 20.0})
    small = [row | {"model": "small", "value": 5 * row["value"]} for row in large]
    figure, _ = shown(large + small, "noise_by_tokens", models=MODELS, panels=["absolute"])
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["Large", "Small"]
    assert panels[0].get_ylim()[1] < panels[1].get_ylim()[0]


def test_tokens_and_text_are_named_on_the_axes():
    figure, _ = shown(many("noise_by_tokens", [1e-3]), "noise_by_tokens", text="docstrings")
    axis = figure.axes[0]
    assert axis.get_xlabel() == "pre-training tokens" and axis.get_xscale() == "log"
    assert axis.get_ylabel() == "change in docstrings perplexity"
    figure.canvas.draw()
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1M", "2M"]


@pytest.mark.parametrize(("last", "scale"), [(90.0, "log"), (9.0, "linear")])
def test_panels_of_a_row_have_one_scale(last, scale):
    rows = sweep({("1M", 1e-3, 0): 9.0, ("2M", 1e-3, 0): last})
    rows += sweep({("1M", 1e-3, 0): 9.0, ("2M", 1e-3, 0): 8.0}, task="second")
    ask = [{"evaluation": "c4", "quantity": "absolute"}]
    figure, _ = shown(rows, "learning_rates_by_tokens", tasks=TASKS, rows=ask)
    assert [axis.get_yscale() for axis in figure.axes] == [scale, scale]


def test_ten_tasks_are_labelled_at_the_outside_of_two_rows():
    names = [f"task{i}" for i in range(10)]
    rows = [row | {"task": n} for n in names for row in many("tuned_by_tokens", [1e-3, 4e-3])]
    ask = [{"evaluation": "c4", "quantity": "absolute"}]
    titles = dict.fromkeys(names, "a task")
    figure, _ = shown(rows, "tuned_by_tokens", tasks=names, rows=ask, titles=titles)
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == 2 * [True, *4 * [False]]
    assert [bool(axis.get_xlabel()) for axis in figure.axes] == 5 * [False] + 5 * [True]
    assert [axis.get_title() for axis in figure.axes] == 10 * ["a task"]
