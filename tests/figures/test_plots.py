"""Figures of made-up measurements whose means, changes and cuts are known."""

import math
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from configuration import PAPERS
from pandas.testing import assert_frame_equal
from scipy.optimize import minimize_scalar

from overtrain import PipelineError
from overtrain.figures import axes, plots, plots_controlled, plots_schematic, plots_theory
from overtrain.figures.aggregate import READS
from overtrain.records.measurements import SCHEMA
from overtrain.studies import linear_network as linear
from overtrain.studies import theory

MODELS = ["large", "small"]
TASKS = ["first", "second"]
BASES = {"1M": (1_000_000, 0, 10.0), "1M-seed1": (1_000_000, 1, 14.0), "2M": (2_000_000, 0, 8.0)}


def frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=SCHEMA.names)


def checkpoint(name: str, model: str = "large") -> dict:
    tokens, seed, _ = BASES[name]
    return {"model": model, "checkpoint": name, "tokens": tokens, "pretraining_seed": seed}


def score(where: dict, perplexity: float) -> list[dict]:
    """Perplexity and loss; NaN for a diverged run."""
    return [
        where | {"metric": "perplexity", "value": perplexity},
        where | {"metric": "loss", "value": math.log(perplexity)},
    ]


def sweep(
    values: dict[tuple, float], evaluation: str = "c4", split: str = "held_out", **where: str
) -> list[dict]:
    """Rows of {(checkpoint, rate, seed): perplexity}, with the base of each checkpoint."""
    rows = []
    own = {"task": "first", "evaluation": evaluation, "split": split} | where
    for name in dict.fromkeys(name for name, _, _ in values):
        base = {"selection": "base", "learning_rate": 0.0, "seed": -1}
        rows += score(checkpoint(name) | base | own, BASES[name][2])
    for (name, rate, seed), value in values.items():
        run = {"selection": "best", "learning_rate": rate, "seed": seed}
        rows += score(checkpoint(name) | run | own, value)
    return rows


def noise(values: dict[tuple, float], **where: str) -> list[dict]:
    """Rows of {(checkpoint, gamma, seed): perplexity}, with the base of each checkpoint."""
    own = {"evaluation": "c4", "split": "held_out"} | where
    rows = []
    for name in dict.fromkeys(name for name, _, _ in values):
        base = {"selection": "base", "gamma": 0.0, "seed": -1}
        rows += score(checkpoint(name) | base | own, BASES[name][2])
    for (name, gamma, seed), value in values.items():
        own_run = {"selection": "noise", "gamma": gamma, "seed": seed}
        rows += score(checkpoint(name) | own_run | own, value)
    return rows


def sharp(values: dict[tuple, float], half: float = 2.0, **where: str) -> list[dict]:
    """Rows of {(checkpoint, gamma, seed): loss change}; a curvature of `half` for each draw."""
    own = {"evaluation": "c4", "split": "held_out", "selection": "noise"} | where
    draws = dict.fromkeys((name, seed) for name, _, seed in values)
    rows = [
        checkpoint(name) | own | {"seed": seed, "metric": "half_curvature", "value": half + seed}
        for name, seed in draws
    ]
    for (name, gamma, seed), value in values.items():
        draw = checkpoint(name) | own | {"gamma": gamma, "seed": seed}
        rows.append(draw | {"metric": "loss_change", "value": value})
    return rows


def settings(plot: str, **more: object) -> dict:
    """What `catalogue.figure_slice` gives a figure of one model and task."""
    rows = [{"evaluation": "c4", "quantity": "change"}]
    names = {"large": "Large", "small": "Small", "first": "First", "second": "Second"}
    common = {
        "title": "A title",
        "scale": None,
        "text": "C4",
        "titles": names,
        "panels": ["change"],
    }
    return common | {"plot": plot, "models": ["large"], "tasks": ["first"], "rows": rows} | more


def drawn(data: list[dict], **chosen: object) -> pd.DataFrame:
    _, table = plots.PLOTS[chosen["plot"]](frame(data), settings(**chosen))
    return table


def points(table: pd.DataFrame, by: str, column: str = "mean") -> dict[tuple, float]:
    return {(r[by], r["tokens"]): r[column] for r in table.to_dict("records")}


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


# --- numbers --------------------------------------------------------------------------------------


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
    table = drawn(
        noise({("1M", 0.1, 0): 11.0}) + other, plot="noise_by_tokens", models=["large", "small"]
    )
    assert dict(zip(table.panel, table["mean"], strict=True)) == {
        "large change": 1.0,
        "small change": 5.0,
    }


def test_learning_rates_are_means_over_seeds_of_reported_splits_only():
    values = {("1M", 1e-3, 0): 11.0, ("1M", 1e-3, 1): 15.0, ("2M", 1e-3, 0): 9.0}
    rows = sweep(values) + sweep({("1M", 1e-3, 0): 3.0}, "id", "test")
    rows += sweep({("1M", 1e-3, 0): 99.0}, "id", "validation")
    rows += sweep({("1M", 1e-3, 0): 77.0}, task="second")
    ask = [
        {"evaluation": e, "quantity": q} for e, q in product(("c4", "id"), ("change", "absolute"))
    ]
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
    assert set(plots_controlled.rates_kept(frame(rows), cut).learning_rate) == kept
    table = drawn(rows, plot="learning_rates_by_tokens", largest_loss=cut)
    assert set(table.learning_rate) == kept
    assert len(table) == 2 * len(kept)


def test_the_cut_is_on_the_mean_over_seeds_and_separate_for_each_task():
    values = {("1M", 1e-2, 0): math.exp(2.0), ("1M", 1e-2, 1): math.exp(3.9)}
    rows = sweep(values) + sweep(values | {("1M", 1e-2, 2): math.exp(4.0)}, task="second")
    kept = plots_controlled.rates_kept(frame(rows), 3.0)
    assert kept.to_dict("records") == [{"model": "large", "task": "first", "learning_rate": 1e-2}]


def test_the_tuned_rate_is_chosen_on_validation_and_reported_on_test():
    validation = {("1M", 1e-3, 0): 5.0, ("1M", 1e-3, 1): 7.0, ("1M", 1e-2, 0): 1.0}
    validation |= {("1M", 1e-2, 1): 20.0, ("1M", 3e-2, 0): 0.5, ("1M", 3e-2, 1): math.nan}
    validation |= {("2M", 1e-3, 0): 5.0, ("2M", 1e-2, 0): 4.0}
    test = {key: 30 + i for i, key in enumerate(validation)}
    web = {key: 50 + i for i, key in enumerate(validation)}
    rows = sweep(validation, "id", "validation") + sweep(test, "id", "test") + sweep(web)
    best = plots_controlled.best_rates(frame(rows))
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
    assert table[["tokens", "mean", "seeds"]].to_dict("records") == [
        {"tokens": 1_000_000, "mean": 5.0, "seeds": 2}
    ]


def optimal(values: dict[tuple, float], **where: str) -> list[dict]:
    return drawn_rates(sweep(values, "id", "validation", **where))


def drawn_rates(rows: list[dict]) -> list[dict]:
    _, table = plots_controlled.optimal_rate_by_tokens(
        frame(rows), settings("optimal_rate_by_tokens", rows=[None])
    )
    return table.to_dict("records")


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
    rows = sweep({("1M", 1e-3, 0): 5.0, ("1M", 1e-2, 0): 6.0}, "id", "validation")
    for evaluation, split in (("id", "test"), ("c4", "held_out")):
        rows += sweep({("1M", 1e-3, 0): 5.0, ("1M", 1e-2, 0): 1.0}, evaluation, split)
    (point,) = drawn_rates(rows)
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
    figure, table = plots_controlled.optimal_rate_by_tokens(
        frame(rows), settings("optimal_rate_by_tokens", rows=[None])
    )
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


def distances(values: dict[tuple, float]) -> list[dict]:
    more = {"task": "first", "selection": "best", "metric": "l2_distance"}
    return [
        checkpoint(name) | more | {"learning_rate": rate, "seed": seed, "value": value}
        for (name, rate, seed), value in values.items()
    ]


def test_distances_are_means_by_budget_and_rate():
    values = {("1M", 1e-3, 0): 1.0, ("1M", 1e-3, 1): 2.0, ("2M", 1e-3, 0): 5.0}
    table = drawn(distances(values), plot="distance_by_learning_rate")
    assert points(table, "learning_rate") == {(1e-3, 1e6): 1.5, (1e-3, 2e6): 5.0}


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (12, "12"),
        (50_000, "50K"),
        (840_000, "0.84M"),
        (1_680_000, "1.68M"),
        (13.5e6, "13.5M"),
        (128e9, "128B"),
        (3e12, "3T"),
    ],
)
def test_tokens_text(tokens, text):
    assert axes.tokens_text(tokens) == text


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


def test_models_of_one_text_have_a_panel_each_with_its_own_range():
    def noisy(model: str, factor: float) -> list[dict]:
        own = checkpoint("1M", model) | {"evaluation": "c4", "split": "held_out"}
        noise = own | {"selection": "noise", "gamma": 0.1, "seed": 0}
        base = own | {"selection": "base", "gamma": 0.0, "seed": -1}
        return score(noise, 2 * factor) + score(base, factor)

    data = frame(noisy("large", 10.0) + noisy("small", 50.0))
    settings = {"models": MODELS, "panels": ["absolute"], "text": "C4"}
    settings |= {"titles": {name: name.upper() for name in MODELS}}
    figure, _ = plots_controlled.noise_by_tokens(data, settings)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["LARGE", "SMALL"]
    assert panels[0].get_ylim()[1] < panels[1].get_ylim()[0]


# --- figures --------------------------------------------------------------------------------------

RATES = [1e-5 * 1.3**i for i in range(27)]
ASK = [{"evaluation": "c4", "quantity": "change"}, {"evaluation": "id", "quantity": "absolute"}]
KINDS = {
    "noise_by_tokens": {"panels": ["change", "absolute"]},
    "learning_rates_by_tokens": {"rows": ASK, "largest_loss": 6.0},
    "tuned_by_tokens": {"rows": ASK},
    "optimal_rate_by_tokens": {"rows": [None]},
    "distance_by_learning_rate": {},
    "sharpness_by_tokens": {},
}
CONTROLLED = [plot for plot in KINDS if plot != "sharpness_by_tokens"]
CHOSEN = ("tuned_by_tokens", "optimal_rate_by_tokens")  # draw the best rate, not every one
BY = {"noise_by_tokens": "gamma", "sharpness_by_tokens": "gamma"}  # or learning_rate


def many(plot: str, steps: list[float], value: float | None = None) -> list[dict]:
    """Rows for a kind of plot: `steps` sizes, two budgets, two seeds; all `value` if given."""
    keys = [*product(("1M", "2M"), steps, (0, 1))]
    values = {key: 9 + 0.1 * i if value is None else value for i, key in enumerate(keys)}
    if plot == "noise_by_tokens":
        return noise(values)
    if plot == "sharpness_by_tokens":
        return sharp(values)
    if plot == "distance_by_learning_rate":
        return distances(values)
    return sweep(values) + sweep(values, "id", "test") + sweep(values, "id", "validation")


def written(folder: Path, data: list[dict], **chosen: object) -> pd.DataFrame:
    """Draw to files; the CSV, after a look at the others."""
    pdf = folder / "figure.pdf"
    plots.draw(frame(data), settings(**chosen), pdf)
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size > 3000
    png = pdf.with_suffix(".png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 3000
    assert sorted(p.name for p in folder.iterdir()) == [
        f"figure.{s}" for s in ("csv", "pdf", "png")
    ]
    return pd.read_csv(pdf.with_suffix(".csv"))


@pytest.mark.parametrize("plot", KINDS)
def test_the_csv_holds_what_is_drawn(plot, tmp_path):
    rows = many(plot, [1e-3, 2e-3, 4e-3])
    table = written(tmp_path, rows, plot=plot, **KINDS[plot])
    expected = drawn(rows, plot=plot, **KINDS[plot])
    if "learning_rates" in table:  # a list as text, which reads as a number if it is one
        table["learning_rates"] = table.learning_rates.astype(str)
    assert_frame_equal(table, expected, check_dtype=False)
    assert len(table) and {"mean", "std", "seeds", "tokens"} <= set(table.columns)


@pytest.mark.parametrize("plot", CONTROLLED)
def test_lines_stand_where_the_table_says(plot):
    figure, table = plots.PLOTS[plot](
        frame(many(plot, [1e-3, 4e-3])), settings(plot, **KINDS[plot])
    )
    heights = [y for axis in figure.axes for line in axis.lines for y in line.get_ydata()]
    column = "learning_rate" if plot == "optimal_rate_by_tokens" else "mean"
    assert sorted(heights) == sorted(table[column])


@pytest.mark.parametrize(
    "plot", ["noise_by_tokens", "learning_rates_by_tokens", "sharpness_by_tokens"]
)
def test_few_lines_get_a_legend_and_many_a_colour_bar(plot, tmp_path):
    for steps in (RATES[:8], RATES):
        figure, _ = plots.PLOTS[plot](frame(many(plot, steps)), settings(plot, **KINDS[plot]))
        bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
        entries = [len(legend.get_texts()) for legend in figure.legends]
        assert (len(bars), entries) == ((0, [9]) if len(steps) == 8 else (1, [1]))  # and the base


@pytest.mark.parametrize("plot", CONTROLLED)
def test_every_kind_takes_the_papers_27_rates(plot, tmp_path):
    table = written(tmp_path, many(plot, RATES), plot=plot, **KINDS[plot])
    by = BY.get(plot, "learning_rate")
    if plot not in CHOSEN:
        assert sorted(set(table[by]) - {0.0}) == pytest.approx(RATES)


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_takes_diverged_runs(plot, tmp_path):
    rows = many(plot, [1e-3, 4e-3])
    key = BY.get(plot, "learning_rate")
    for row in rows:
        if row.get(key) == 4e-3 and row["checkpoint"] == "2M" and row["seed"] == 1:
            row["value"] = math.nan
    more = KINDS[plot] | ({"largest_loss": None} if "largest_loss" in KINDS[plot] else {})
    table = written(tmp_path, rows, plot=plot, **more)
    if plot in CHOSEN:  # a rate with a diverged run is not chosen
        assert table["mean"].notna().all() and len(table)
        return
    bad = table[(table[key] == 4e-3) & (table.tokens == 2_000_000)]
    assert len(bad) and bad["mean"].isna().all()
    assert table["mean"].notna().any()


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_takes_a_sweep_without_one_finite_run(plot, tmp_path):
    table = written(tmp_path, many(plot, [1e-3, 4e-3], math.nan), plot=plot, **KINDS[plot])
    if plot in CHOSEN:  # there is no rate to choose
        assert table.empty
        return
    key = BY.get(plot, "learning_rate")
    assert table[table[key] > 0]["mean"].isna().all()


@pytest.mark.parametrize("plot", KINDS)
def test_a_grid_of_models_and_tasks_has_a_panel_each(plot):
    rows = [
        row | {"model": model, "task": task}
        for row in many(plot, [1e-3, 4e-3])
        for model in MODELS
        for task in TASKS
    ]
    chosen = settings(plot, **KINDS[plot] | {"models": MODELS, "tasks": TASKS})
    figure, _ = plots.PLOTS[plot](frame(rows), chosen)
    panels = 4 * len(KINDS[plot].get("rows", [None]))
    assert sum(bool(axis.lines) for axis in figure.axes) == panels
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    wanted = ["Large", "Large", "Small", "Small"]
    if plot not in BY:
        wanted = [f"{m}, {t}" for m, t in product(("Large", "Small"), ("First", "Second"))]
    assert titles == wanted


@pytest.mark.parametrize(
    ("scale", "title"), [(None, "A title"), ("demo scale", "A title (demo scale)")]
)
def test_the_title_tells_the_scale(scale, title, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots.plt, "close", figures.append)
    rows = many("noise_by_tokens", [1e-3])
    plots.draw(frame(rows), settings("noise_by_tokens", scale=scale), tmp_path / "figure.pdf")
    assert figures[0].get_suptitle() == title


def test_tokens_and_text_are_named_on_the_axes():
    figure, _ = plots.PLOTS["noise_by_tokens"](
        frame(many("noise_by_tokens", [1e-3])), settings("noise_by_tokens", text="docstrings")
    )
    axis = figure.axes[0]
    assert axis.get_xlabel() == "pre-training tokens" and axis.get_xscale() == "log"
    assert axis.get_ylabel() == "change in docstrings perplexity"
    figure.canvas.draw()
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1M", "2M"]


@pytest.mark.parametrize(
    "plot", ["learning_rates_by_tokens", "theory_noise", "gains_by_checkpoint"]
)
def test_the_same_numbers_give_the_same_bytes(plot, tmp_path):
    if plot in STUDY:
        rows = [*SCORES, *ours(SCORES)]
    else:
        rows = simulated(plot) if plot in THEORY else many(plot, [1e-3, 4e-3])
    chosen = settings(plot, **(KINDS | THEORY | STUDY)[plot])
    made = []
    for name in ("one", "two"):
        plots.draw(frame(rows), chosen, tmp_path / name / "figure.pdf")
        files = sorted((tmp_path / name).iterdir())
        made.append([path.read_bytes() for path in files])
    assert made[0] == made[1]


# --- grids ----------------------------------------------------------------------------------------


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


def test_ten_tasks_are_labelled_at_the_outside_of_two_rows():
    names = [f"task{i}" for i in range(10)]
    rows = [row | {"task": n} for n in names for row in many("tuned_by_tokens", [1e-3, 4e-3])]
    ask = [{"evaluation": "c4", "quantity": "absolute"}]
    chosen = settings("tuned_by_tokens", tasks=names, rows=ask) | {
        "titles": dict.fromkeys(names, "a task")
    }
    figure, _ = plots_controlled.tuned_by_tokens(frame(rows), chosen)
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == 2 * [True, *4 * [False]]
    assert [bool(axis.get_xlabel()) for axis in figure.axes] == 5 * [False] + 5 * [True]
    assert [axis.get_title() for axis in figure.axes] == 10 * ["a task"]


# --- the schematic --------------------------------------------------------------------------------

CONFIG = PAPERS
FIG07 = CONFIG["figures"]["overtrained"]["fig07"]
REGIMES = ["constant", "slowly decreasing", "quickly decreasing"]


@pytest.fixture
def schematic() -> pd.DataFrame:
    _, table = plots_schematic.schematic_regimes(None, FIG07)
    return table


def turns(line: pd.DataFrame) -> bool:
    """Falls to an inner minimum and rises from there by a tenth at least."""
    losses = line.sort_values("tokens").loss.to_numpy()
    lowest = losses.argmin()
    assert (np.diff(losses[: lowest + 1]) < 0).all() and (np.diff(losses[lowest:]) > 0).all()
    return 0 < lowest < len(losses) - 1 and losses[-1] > 1.1 * losses[lowest]


def test_the_tuned_line_turns_up_on_both_on_ood_alone_and_on_neither(schematic):
    tuned = schematic[schematic.tuned]
    found = {key: turns(line) for key, line in tuned.groupby(["regime", "quantity"])}
    assert [(found[r, "ood"], found[r, "id"]) for r in REGIMES] == [
        (True, True),
        (True, False),
        (False, False),
    ]


def test_the_tuned_rate_falls_as_its_regime_says(schematic):
    ends = schematic[schematic.tuned].groupby("regime").learning_rate.agg(["first", "last"])
    falls = (ends["first"] / ends["last"]).loc[REGIMES]
    assert (ends["first"] == 1).all()
    assert falls.iloc[0] == 1 and 1.5 < falls.iloc[1] < falls.iloc[2] / 5


def test_a_large_fixed_rate_turns_up_on_ood_everywhere_and_a_smaller_one_later(schematic):
    ood = schematic[(schematic.quantity == "ood") & ~schematic.tuned]
    for _, own in ood.groupby("regime"):
        places = [line.loss.argmin() for _, line in own.groupby("learning_rate")]
        assert places == sorted(places, reverse=True)
        assert turns(own[own.learning_rate == 1.0])


@pytest.mark.parametrize("regime", FIG07["regimes"], ids=REGIMES)
@pytest.mark.parametrize("tokens", [1.0, 7.0, 100.0])
def test_the_tuned_rate_minimises_the_id_loss(regime, tokens):
    f, p = FIG07["formula"], regime["p"]
    best = tokens ** -plots_schematic.tuned_exponent(p, f)
    found = minimize_scalar(
        lambda log: plots_schematic.losses(np.array(tokens), np.exp(log), p, f)["id"],
        bounds=(-9, 2),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert np.exp(found.x) == pytest.approx(best, rel=1e-5)


def test_the_schematic_is_written_without_data(tmp_path):
    plots.draw(None, FIG07 | {"scale": None}, tmp_path / "figure.pdf")
    table = pd.read_csv(tmp_path / "figure.csv")
    assert set(table.regime) == set(REGIMES) and table.notna().all(axis=None)
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


# --- theory ---------------------------------------------------------------------------------------

PRE = np.array([2.0, 1.0, 0.5])
NETWORKS = {"features": {"count": 3, "largest": 2.0, "smallest": 0.5}, "tau": 40, "seeds": [0, 1]}
# 2 d gamma^2 is 0.24, 0.74 and 1.5: the inflection is at 3 (the loss never rises), 2 and 1
NOISE = {"gammas": [0.2, 0.35, 0.5], "draws": 50}
SPECTRA = {"alpha1.5": [1.5, 1.5], "alpha3": [3.0, 3.0], "graded": [1.0, 3.8]}
TUNING = {
    "spectra": SPECTRA,
    "lambdas": [0, 0.5, 1.5, 3],  # graded: 2 + lambda below, below, below and above 3.8
    "batch_size": 256,
    "step": 0.9,
    "tolerance": 1e-2,
}
OWN = {"pretraining": {"taus": [10, 20]}, "noise": NOISE, "fine_tuning": TUNING}
THEORY = {
    "theory_features": {"experiment": "pretraining"},
    "theory_noise": {"experiment": "noise"},
    "theory_sensitivity": {
        "experiment": "fine_tuning",
        "ratios": SPECTRA,
        "spectra": ["alpha1.5", "alpha3"],
        "lambdas": [0, 3],
    },
    "theory_tradeoff": {
        "experiment": "fine_tuning",
        "ratios": SPECTRA,
        "spectra": ["alpha1.5", "alpha3"],
        "graded": "graded",
        "lambdas": [0, 1.5, 3],
    },
}


@cache
def measured(experiment: str) -> list[dict]:
    return theory.simulate(experiment, NETWORKS | OWN[experiment])


def simulated(plot: str) -> list[dict]:
    """What an aggregate holds: the rows that the plot reads."""
    metrics, selections = READS[plot]
    rows = measured(THEORY[plot]["experiment"])
    return [r for r in rows if r["metric"] in metrics and r["selection"] in selections]


def theory_figure(plot: str, rows: list[dict] | None = None, **more: object):
    chosen = settings(plot, **THEORY[plot] | more)
    return plots.PLOTS[plot](frame(simulated(plot) if rows is None else rows), chosen)


def values_of(rows: list[dict], **values: object) -> list[float]:
    return [r["value"] for r in rows if all(r.get(k) == v for k, v in values.items())]


def bars(axis) -> list[np.ndarray]:
    """Points with error bars: arrays of x, y and half the bar's length."""
    found = []
    for points, _, (segments,) in axis.containers:
        ends = np.array(segments.get_segments())
        found.append(np.c_[points.get_xydata(), np.ptp(ends[:, :, 1], axis=1) / 2])
    return found


def curves(axis) -> list:
    """Continuous lines."""
    return [line for line in axis.lines if line.get_linestyle() == "-"]


def rings(axis) -> list[list[float]]:
    return [line.get_xydata()[0].tolist() for line in axis.lines if line.get_markersize() == 9]


@pytest.mark.parametrize("plot", ["theory_features", "theory_tradeoff"])
def test_the_csv_of_a_theory_figure_holds_what_is_drawn(plot, tmp_path):
    table = written(tmp_path, simulated(plot), plot=plot, **THEORY[plot])
    _, expected = theory_figure(plot)
    assert_frame_equal(table, expected.reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize("plot", THEORY)
def test_a_theory_figure_takes_diverged_networks(plot):
    """One number of every metric, or all of a network's, are NaN."""
    metrics, _ = READS[plot]
    rows = [dict(row) for row in simulated(plot)]
    for metric in metrics:
        own = [r for r in rows if r["metric"] == metric and r["selection"] == "simulated"]
        for row in own[-1:] if metric == "singular_value" else own[len(own) // 2 :]:
            row["value"] = math.nan
    figure, table = theory_figure(plot, rows)
    figure.canvas.draw()
    column = "mean" if "mean" in table else "value"
    assert table[column].isna().any()


@pytest.mark.parametrize("plot", list(THEORY)[1:])
def test_a_missing_closed_form_is_not_drawn(plot):
    """Of the last checkpoint: its point stands, and the line ends before it."""
    last = {"selection": "closed_form", "features": 3}
    rows = [r for r in simulated(plot) if not last.items() <= r.items()]
    axis = theory_figure(plot, rows)[0].axes[0]
    for curve, points in zip(curves(axis), bars(axis), strict=True):
        assert np.isnan(curve.get_ydata()[2]) and np.isfinite(curve.get_ydata()[:2]).all()
        assert np.isfinite(points).all() and points[-1, 0] == 3


def test_features_over_time_are_the_simulated_and_the_logistic_curves():
    rows = simulated("theory_features")
    figure, table = theory_figure("theory_features")
    left, middle, right = figure.axes
    lines = curves(left)
    drawn = [line for line in lines if len(line.get_xdata()) > 2]
    for line, (feature, seed) in zip(drawn, product((1, 2, 3), (0, 1)), strict=True):
        own = {"selection": "simulated", "seed": seed, "features": feature}
        assert line.get_ydata().tolist() == values_of(rows, metric="singular_value", **own)
    assert len({line.get_color() for line in drawn}) == 3
    dotted = [line for line in left.lines if line.get_linestyle() == ":"]
    for feature, line in enumerate(dotted, start=1):
        own = {"selection": "closed_form", "features": feature}
        assert line.get_ydata().tolist() == values_of(rows, metric="singular_value", **own)
    assert len(dotted) == 3
    times = linear.checkpoint_times(PRE, 40)
    for axis in (left, middle):
        upright = [line for line in curves(axis) if line.get_color() == "grey"]
        assert [line.get_xdata()[0] for line in upright] == pytest.approx(times.tolist())
        assert axis.get_xscale() == "log" and axis.get_xlabel() == "time of the gradient flow"
    losses = [line.get_ydata().tolist() for line in curves(middle) if line.get_color() != "grey"]
    assert losses == [values_of(rows, metric="loss", seed=seed) for seed in (0, 1)]
    bottom, top = middle.get_ylim()
    assert bottom < PRE[-1] ** 2 and (PRE**2).sum() < top < 10 * (PRE**2).sum()
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert len(labels) == 4 and "as printed" in labels[0] and "exp" in labels[3]
    assert set(table.metric) == {"singular_value", "time", "loss"} | set(plots_theory.DISTANCES)


def test_distances_are_points_beside_their_bound():
    rows = simulated("theory_features")
    axis = theory_figure("theory_features")[0].axes[2]
    *points, bound = axis.lines
    names = ["distance_as_printed", "distance_up_to_rotation", "distance_of_product"]
    for line, metric in zip(points, names, strict=True):
        assert line.get_linestyle() == "None"
        assert line.get_ydata().tolist() == values_of(rows, metric=metric, selection="simulated")
        assert line.get_xdata().tolist() == [10, 20, 10, 20]
    assert bound.get_xdata().tolist() == [10, 20] and axis.get_yscale() == "log"
    rate = linear.convergence_rate(PRE)
    assert bound.get_ydata() == pytest.approx(np.exp(-rate * np.array([10, 20])))


def test_loss_under_noise_is_the_mean_over_networks_on_the_closed_form_with_its_inflection():
    rows = simulated("theory_noise")
    figure, table = theory_figure("theory_noise")
    axis, share = figure.axes
    for gamma, relative in zip(NOISE["gammas"], bars(share), strict=True):
        own = table[table.gamma == gamma].sort_values("features")
        expected = own[["mean", "std"]].div(own.closed_form, axis="index")
        np.testing.assert_allclose(relative[:, 1:], expected)
        assert abs(relative[:, 1] - 1).max() < 0.2
    for gamma, curve, points in zip(NOISE["gammas"], curves(axis), bars(axis), strict=True):
        own = table[table.gamma == gamma].sort_values("features")
        for n, mean, std in own[["features", "mean", "std"]].itertuples(index=False):
            found = values_of(rows, gamma=gamma, features=n, metric="loss", selection="simulated")
            assert len(found) == 2
            assert (mean, std) == pytest.approx((np.mean(found), np.std(found, ddof=1)))
        assert own.closed_form.tolist() == pytest.approx(linear.noise_losses(PRE, gamma).tolist())
        np.testing.assert_allclose(curve.get_xydata(), own[["features", "closed_form"]])
        np.testing.assert_allclose(points, own[["features", "mean", "std"]])
    losses = {gamma: linear.noise_losses(PRE, gamma) for gamma in NOISE["gammas"]}
    assert rings(axis) == [pytest.approx([2, losses[0.35][1]]), pytest.approx([1, losses[0.5][0]])]
    assert dict(zip(table.gamma, table.inflection, strict=True)) == {0.2: 3, 0.35: 2, 0.5: 1}
    assert (table.inflection_simulated - table.inflection).abs().max() <= 0.5
    assert axis.get_xlabel() == "features learned, $n$" and "loss" in axis.get_ylabel()
    figure.canvas.draw()
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1, 2, 3]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0.2", "0.35", "0.5"]


def test_the_ring_of_a_simulated_inflection_stays_at_the_closed_form():
    rows = [dict(row) for row in simulated("theory_noise")]
    for row in rows:
        if row["metric"] == "inflection" and row["selection"] == "simulated":
            row["value"] = 1.0
    figure, table = theory_figure("theory_noise", rows)
    assert [x for x, _ in rings(figure.axes[0])] == [2, 1]
    assert set(table.inflection_simulated) == {1.0}


def test_sensitivity_has_a_panel_for_each_penalty_and_a_line_for_each_spectrum():
    figure, table = theory_figure("theory_sensitivity")
    rows = simulated("theory_sensitivity")
    assert [axis.get_title() for axis in figure.axes] == ["$\\lambda$ = 0", "$\\lambda$ = 3"]
    assert len(table) == 2 * 2 * 3
    for axis, penalty in zip(figure.axes, (0, 3), strict=True):
        own = zip(("alpha1.5", "alpha3"), (1.5, 3), curves(axis), bars(axis), strict=True)
        for name, ratio, curve, points in own:
            expected = linear.sensitivity(PRE, ratio * PRE, penalty)
            assert curve.get_ydata() == pytest.approx(expected)
            key = {"task": name, "lambda": penalty, "metric": "loss_change"}
            found = [values_of(rows, **key, selection="simulated", features=n) for n in (1, 2, 3)]
            assert points[:, 1] == pytest.approx(np.mean(found, axis=1))
            assert points[:, 2] == pytest.approx(np.std(found, axis=1, ddof=1))
            chosen = table[(table.spectrum == name) & (table.penalty == penalty)]
            assert chosen["mean"].tolist() == points[:, 1].tolist()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1.5", "3"]


def test_the_tradeoffs_panels_hold_their_losses_and_rings():
    figure, table = theory_figure("theory_tradeoff")
    a, b, _, d, e, f = figure.axes
    titles = [axis.get_title()[:3] for axis in figure.axes]
    assert titles == [f"({panel})" for panel in "abcdef"]
    for curve, ratio in zip(curves(a), (1.5, 3), strict=True):
        expected, _ = linear.fine_tuned_losses(PRE, ratio * PRE, 0)
        assert curve.get_ydata() == pytest.approx(expected)
    assert [text.get_text() for text in a.texts] == ["$\\alpha$=1.5", "$\\alpha$=3"]
    ft = PRE * np.geomspace(1, 3.8, 3)
    losses = [linear.fine_tuned_losses(PRE, ft, penalty) for penalty in (0, 1.5, 3)]
    for axis, which, name in ((b, 0, "b"), (d, 1, "d")):
        own = table[table.panel == name]
        for k, (curve, points) in enumerate(zip(curves(axis), bars(axis), strict=True)):
            assert curve.get_ydata() == pytest.approx(losses[k][which])
            chosen = own[own.penalty == (0, 1.5, 3)[k]]
            np.testing.assert_allclose(points, chosen[["features", "mean", "std"]])
    assert a.get_ylabel() == b.get_ylabel() == "pre-training loss"
    assert d.get_ylabel() == e.get_xlabel() == "fine-tuning loss"
    # at lambda 3 the loss never rises
    assert rings(b) == [pytest.approx([2, losses[k][0][1]]) for k in (0, 1)]
    assert rings(a) == rings(d) == []
    last = [linear.fine_tuned_losses(PRE, ft, penalty) for penalty in TUNING["lambdas"]]
    (curve,) = curves(e)
    assert curve.get_ydata() == pytest.approx([on_pre[-1] for on_pre, _ in last])
    assert curve.get_xdata() == pytest.approx([on_ft[-1] for _, on_ft in last], abs=1e-12)
    labels = [text.get_text() for text in e.texts]  # not 0.5, which the figure does not name
    assert labels == ["$\\lambda$=0", "$\\lambda$=1.5", "$\\lambda$=3"]
    (points,) = bars(f)
    assert points[:, 0].tolist() == TUNING["lambdas"]
    assert points[:, 1] == pytest.approx([1, 1 / 1.5, 1 / 2.5, 1 / 4], abs=0.05)
    closed = table[table.panel == "f"].closed_form
    assert closed.tolist() == pytest.approx([1, 1 / 1.5, 1 / 2.5, 1 / 4])


def test_the_inflection_by_penalty_steps_where_the_closed_form_does():
    """The last feature raises the loss while 3.8 > 2 + lambda: 2 becomes 3 at lambda 1.8."""
    figure, table = theory_figure("theory_tradeoff")
    axis = figure.axes[2]
    (step,) = [line for line in axis.lines if line.get_drawstyle() == "steps-post"]
    x, y = step.get_data()
    assert (np.diff(x) >= 0).all() and x[0] == 0 and x[-1] == 3
    assert (y[x < 1.79] == 2).all() and (y[x > 1.81] == 3).all()
    assert np.diff(x).max() < 0.02  # the step stands where it is, not at the next simulation
    (points,) = bars(axis)
    assert points.tolist() == [[0, 2, 0], [0.5, 2, 0], [1.5, 2, 0], [3, 3, 0]]
    own = table[table.panel == "c"].sort_values("lambda")
    simulated = own.dropna(subset="mean")
    assert simulated[["lambda", "mean", "std"]].to_numpy().tolist() == points.tolist()
    assert own.closed_form.tolist() == y.tolist()


# --- sharpness ------------------------------------------------------------------------------------


def test_sharpness_is_the_rise_by_gamma_squared_beside_half_the_trace():
    first = {("1M", 0.1, 0): 0.03, ("1M", 0.1, 1): 0.05, ("1M", 0.2, 0): 0.2, ("1M", 0.2, 1): 0.2}
    then = {("2M", 0.1, 0): 0.06, ("2M", 0.1, 1): 0.06, ("2M", 0.2, 0): 0.3, ("2M", 0.2, 1): 0.5}
    rows = sharp(first, half=2.0) + sharp(then, half=7.5)  # 2 and 3; 7.5 and 8.5
    figure, table = plots.PLOTS["sharpness_by_tokens"](frame(rows), settings("sharpness_by_tokens"))
    half = table[table.quantity == "half_trace"]
    assert half["mean"].tolist() == [2.5, 8] and half["std"].tolist() == [math.sqrt(0.5)] * 2
    change = table[table.quantity == "loss_change"]
    assert points(change, "gamma") == pytest.approx(
        {(0.1, 1e6): 0.04, (0.2, 1e6): 0.2, (0.1, 2e6): 0.06, (0.2, 2e6): 0.4}
    )
    assert points(change, "gamma", "std")[0.1, 1e6] == pytest.approx(0.01 * math.sqrt(2))
    left, right = figure.axes
    weak, strong, trace = left.lines
    assert weak.get_ydata() == pytest.approx([4, 6]) and strong.get_ydata() == pytest.approx(
        [5, 10]
    )
    assert trace.get_ydata().tolist() == [2.5, 8] and trace.get_linestyle() == "--"
    assert trace.get_xdata().tolist() == [1e6, 2e6]
    early, late, one = right.lines
    assert early.get_ydata() == pytest.approx([1.6, 2]) and late.get_ydata() == pytest.approx(
        [0.75, 1.25]
    )
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
    chosen = settings("sharpness_by_tokens", models=MODELS)
    figure, table = plots.PLOTS["sharpness_by_tokens"](frame(rows), chosen)
    half = table[table.quantity == "half_trace"]
    assert dict(zip(half.model, half["mean"], strict=True)) == {"large": 2.0, "small": 8.0}
    assert [axis.lines[0].get_ydata() for axis in figure.axes[1::2]] == [
        pytest.approx([2]),
        pytest.approx([0.5]),
    ]


# --- along a direction ----------------------------------------------------------------------------

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
    figure, table = plots.PLOTS["loss_along_direction"](frame(rows), own)
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
    chosen = settings("loss_along_direction", models=MODELS, tasks=TASKS, **LAMBDAS)
    figure, table = plots.PLOTS["loss_along_direction"](frame(rows), chosen)
    found = table[table["lambda"] == 2].set_index(["model", "task"]).rise
    assert found.tolist() == [0, 4, 8, 12] and len(figure.axes) == 8
    assert "fine-tuned" in figure.axes[0].get_xlabel()


def test_a_diverged_lambda_leaves_a_gap(tmp_path):
    rows = along("1M", 0.5, 2.0, 0.0, task="first")
    rows[-1] |= {"value": math.nan, "diverged": True}
    table = written(tmp_path, rows, plot="loss_along_direction", **LAMBDAS)
    assert table[table["lambda"] == 2].rise.isna().all() and table.rise.isna().sum() == 1


# --- Amuro & Char ---------------------------------------------------------------------------------

CHECKPOINTS = ["step1000", "step18000", "main"]
PRINTED = {
    "checkpoints": CHECKPOINTS,
    "evaluations": {
        "quiz": {"title": "Quiz", "metric": "accuracy"},
        "summary": {"title": "Summary", "metric": "rouge_l"},
        "other": {"title": "Other", "metric": "accuracy"},
    },
    "trained_on": {"texts": "Texts", "labels": "Labels"},
}


def scores(
    evaluation: str, task: str | None, values: list[float | None], **more: object
) -> list[dict]:
    """Rows of a fine-tuned model or the base (task None); errors 0.01, 0.02, 0.03."""
    where = {"source": "published", "model": "m", "task": task, "evaluation": evaluation}
    where |= {"selection": "last" if task else "base", "shots": 4, "prompt": "default"}
    where["metric"] = PRINTED["evaluations"][evaluation]["metric"]
    return [
        where | {"checkpoint": checkpoint, "value": value, "stderr": 0.01 * (i + 1)} | more
        for i, (checkpoint, value) in enumerate(zip(CHECKPOINTS, values, strict=True))
        if value is not None
    ]


def ours(rows: list[dict]) -> list[dict]:
    """The same rows as of ours, every score half as large and without an error."""
    return [r | {"source": "ours", "value": r["value"] / 2, "stderr": math.nan} for r in rows]


SCORES = [
    *scores("quiz", None, [0.25, 0.5, 0.5]),
    *scores("quiz", "labels", [0.5, 0.75, 1.0]),
    *scores("quiz", "texts", [0.25, 0.25, 0.75]),
    *scores("summary", None, [0.125, 0.25, 0.25]),
    *scores("summary", "labels", [0.0, 0.125, 0.0]),
    *scores("other", None, [0.5, 0.5, 0.5]),
]
QUIZ = {"task": "labels", "evaluation": "quiz"}
SUMMARY = {"task": "labels", "evaluation": "summary"}
STUDY = {
    "base_by_checkpoint": PRINTED
    | {
        "groups": [
            {"title": "(a)", "cells": [{"task": None, "evaluation": e} for e in ("quiz", "other")]},
            {"title": "(b)", "cells": [{"task": None, "evaluation": "summary"}]},
        ]
    },
    "scores_by_checkpoint": PRINTED | {"cells": [QUIZ, SUMMARY]},
    "gains_by_checkpoint": PRINTED
    | {
        "groups": [
            {"title": "both", "cells": [QUIZ, SUMMARY, QUIZ]},
            {"title": "one", "cells": [QUIZ]},
        ]
    },
    "changes_by_evaluation": PRINTED | {"cells": [QUIZ, SUMMARY]},
}


def study_figure(plot: str, rows: list[dict] = SCORES, **more: object):
    return plots.PLOTS[plot](frame(rows), settings(plot, **STUDY[plot] | more))


def heights(container) -> list[float | None]:
    """Of the points of a line with error bars; None where there is none."""
    return [None if math.isnan(y) else y for y in container[0].get_ydata()]


def errors(container) -> dict[float, float]:
    """Half the length of each error bar by its place."""
    found = [np.array(s) for s in container[2][0].get_segments()]
    return {s[0, 0]: np.ptp(s[:, 1]) / 2 for s in found if len(s) and np.isfinite(s).all()}


def texts(labels: list) -> list[str]:
    return [label.get_text() for label in labels]


@pytest.mark.parametrize("plot", STUDY)
def test_the_csv_of_a_studys_figure_holds_what_is_drawn(plot, tmp_path):
    table = written(tmp_path, SCORES, plot=plot, **STUDY[plot])
    _, expected = study_figure(plot)
    assert_frame_equal(table, expected.reset_index(drop=True), check_dtype=False)
    assert not table.empty


def test_base_scores_are_a_panel_for_each_group_and_a_line_for_each_evaluation():
    figure, table = study_figure("base_by_checkpoint")
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("(a)", "(b)")
    assert [heights(line) for line in left.containers] == [[0.25, 0.5, 0.5], [0.5, 0.5, 0.5]]
    assert [heights(line) for line in right.containers] == [[0.125, 0.25, 0.25]]
    assert texts(left.get_legend().get_texts()) == ["Quiz", "Other"]
    assert texts(right.get_legend().get_texts()) == ["Summary"]
    assert len({line[0].get_color() for line in left.containers}) == 2
    for line in (*left.containers, *right.containers):
        assert errors(line) == pytest.approx({0: 0.01, 1: 0.02, 2: 0.03})
    assert table.group.tolist() == ["(a)"] * 6 + ["(b)"] * 3
    assert table.value.tolist() == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.125, 0.25, 0.25]
    assert set(table.selection) == {"base"}


def test_fine_tuned_scores_stand_over_the_dashed_base():
    figure, table = study_figure("scores_by_checkpoint")
    quiz, summary = figure.axes
    assert texts([quiz.title, summary.title]) == ["Labels → Quiz", "Labels → Summary"]
    assert (quiz.get_ylabel(), summary.get_ylabel()) == ("accuracy", "ROUGE-L")
    expected = {quiz: ([0.25, 0.5, 0.5], [0.5, 0.75, 1.0])}  # not that tuned on Texts
    expected[summary] = ([0.125, 0.25, 0.25], [0.0, 0.125, 0.0])
    for axis, pair in expected.items():
        assert [heights(line) for line in axis.containers] == list(pair)
        assert [line[0].get_linestyle() for line in axis.containers] == ["--", "-"]
        for line in axis.containers:
            assert errors(line) == pytest.approx({0: 0.01, 1: 0.02, 2: 0.03})
        assert axis.get_xlabel() == "pre-training steps"
        assert texts(axis.get_xticklabels()) == ["1K", "18K", "main"]
    legend = {entry.get_label(): entry for entry in figure.legends[0].get_lines()}
    assert [(label, line.get_linestyle()) for label, line in legend.items()] == [
        ("fine-tuned", "-"),
        ("base", "--"),
    ]
    base, tuned = (line[0].get_color() for line in quiz.containers)
    assert (legend["base"].get_color(), legend["fine-tuned"].get_color()) == (base, tuned)
    assert base != tuned
    assert len(table) == 12 and table[table.selection == "last"].task.eq("labels").all()


@pytest.mark.parametrize("plot", ["base_by_checkpoint", "scores_by_checkpoint"])
def test_a_missing_checkpoint_is_a_gap_and_an_unknown_error_has_no_bar(plot):
    rows = [
        dict(r)
        for r in SCORES
        if not (r["evaluation"] == "quiz" and r["checkpoint"] == "step18000")
    ]
    for row in rows:
        if row["checkpoint"] == "main":
            row["stderr"] = math.nan
    figure, table = study_figure(plot, rows)
    for line in figure.axes[0].containers[:1]:
        assert heights(line) == [0.25, None, 0.5]
        assert errors(line) == pytest.approx({0: 0.01, 2: 0.0})
    assert texts(figure.axes[0].get_xticklabels()) == ["1K", "18K", "main"]
    assert "step18000" not in set(table[table.evaluation == "quiz"].checkpoint)


def test_rows_stand_in_the_order_of_the_checkpoints_whatever_their_own():
    figure, _ = study_figure("scores_by_checkpoint", SCORES[::-1])
    assert [heights(line) for line in figure.axes[0].containers] == [
        [0.25, 0.5, 0.5],
        [0.5, 0.75, 1.0],
    ]


def test_task_formats_have_a_colour_each_and_their_own_base():
    prompts = ["default", "instruction", "input_output"]
    rows = [
        r | {"prompt": prompt, "value": r["value"] / (i + 1)}
        for i, prompt in enumerate(prompts)
        for r in SCORES
    ]
    figure, table = study_figure("scores_by_checkpoint", rows, prompts=prompts, cells=[QUIZ])
    lines = figure.axes[0].containers
    assert [heights(line) for line in lines] == [
        [v / (i + 1) for v in values]
        for i in range(3)
        for values in ([0.25, 0.5, 0.5], [0.5, 0.75, 1])
    ]
    colours = [line[0].get_color() for line in lines]
    assert colours[::2] == colours[1::2] and len(set(colours)) == 3
    legend = figure.legends[0].get_lines()
    assert [entry.get_label() for entry in legend] == [
        "default",
        "instruction",
        "input output",
        "base",
    ]
    assert [entry.get_color() for entry in legend[:3]] == colours[::2]
    assert table.groupby("prompt").size().to_dict() == dict.fromkeys(prompts, 6)


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 4)), (9, (3, 4))])
def test_panels_fill_rows_of_four_and_no_axis_is_empty(count, shape):
    figure, _ = study_figure("scores_by_checkpoint", cells=[QUIZ, SUMMARY, *[QUIZ] * 9][:count])
    assert len(figure.axes) == count and all(axis.containers for axis in figure.axes)
    assert figure.axes[0].get_gridspec().get_geometry() == shape


def test_gains_are_bars_of_means_over_the_members_by_checkpoint():
    figure, table = study_figure("gains_by_checkpoint")
    (axis,) = figure.axes
    both, one = axis.containers
    quiz, summary = [0.25, 0.25, 0.5], [-0.125, -0.125, -0.25]
    means = [(2 * q + s) / 3 for q, s in zip(quiz, summary, strict=True)]  # Quiz stands twice
    assert [bar.get_height() for bar in both] == pytest.approx(means)
    assert [bar.get_height() for bar in one] == quiz
    for i, (left, right) in enumerate(zip(both, one, strict=True)):  # side by side at the tick
        assert left.get_x() + left.get_width() == pytest.approx(i) == right.get_x()
    assert texts(figure.legends[0].get_texts()) == ["both", "one"]
    assert both[0].get_facecolor() != one[0].get_facecolor()
    assert texts(axis.get_xticklabels()) == ["1K", "18K", "main"]
    assert table.gain.tolist() == pytest.approx([*means, *quiz])
    assert table.group.tolist() == ["both"] * 3 + ["one"] * 3


def test_a_checkpoint_missing_from_one_group_of_gains_is_one_line():
    rows = [
        r
        for r in SCORES
        if not (r["evaluation"] == "summary" and r["task"] and r["checkpoint"] == "main")
    ]
    with pytest.raises(
        PipelineError, match=r"^summary after fine-tuning on labels, checkpoint main"
    ):
        study_figure("gains_by_checkpoint", rows)


def test_changes_are_mean_ratios_with_their_error_over_checkpoints():
    figure, table = study_figure("changes_by_evaluation")
    (axis,) = figure.axes
    ratios = {"quiz": [1.0, 0.5, 1.0], "summary": [-1.0, -0.5, -1.0]}
    bars = [bar for container in axis.containers for bar in container if hasattr(bar, "get_height")]
    lines = [container.errorbar for container in axis.containers if hasattr(container, "errorbar")]
    means = [np.mean(r) for r in ratios.values()]
    spreads = [np.std(r, ddof=1) / math.sqrt(3) for r in ratios.values()]
    assert [bar.get_height() for bar in bars] == pytest.approx(means)
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([0, 1])
    for place, (line, spread) in enumerate(zip(filter(None, lines), spreads, strict=True)):
        assert errors(line) == pytest.approx({place: spread})
    assert bars[0].get_facecolor() != bars[1].get_facecolor()  # by their sign
    assert texts(axis.get_xticklabels()) == ["Labels → Quiz", "Labels → Summary"]
    assert table.ratio.tolist() == pytest.approx([*ratios["quiz"], *ratios["summary"]])
    assert table["mean"].tolist() == pytest.approx([means[0]] * 3 + [means[1]] * 3)
    assert table.stderr_over_checkpoints.tolist() == pytest.approx([spreads[0]] * 6)


def test_our_scores_lie_over_the_published_ones_with_another_marker():
    figure, table = study_figure("scores_by_checkpoint", [*SCORES, *ours(SCORES)])
    lines = {}
    for line in figure.axes[0].containers:
        lines[line[0].get_marker(), line[0].get_linestyle()] = line
    assert {key: heights(line) for key, line in lines.items()} == {
        ("o", "--"): [0.25, 0.5, 0.5],
        ("s", "--"): [0.125, 0.25, 0.25],
        ("o", "-"): [0.5, 0.75, 1.0],
        ("s", "-"): [0.25, 0.375, 0.5],
    }
    assert errors(lines["s", "-"]) == {0: 0, 1: 0, 2: 0}
    assert table.groupby("source").size().to_dict() == {"ours": 12, "published": 12}


@pytest.mark.parametrize("source", ["ours", "published"])
def test_one_source_alone_keeps_its_marker(source):
    rows = SCORES if source == "published" else ours(SCORES)
    figure, table = study_figure("base_by_checkpoint", rows)
    markers = {line[0].get_marker() for axis in figure.axes for line in axis.containers}
    assert markers == {"s" if source == "ours" else "o"} and set(table.source) == {source}


def test_our_gains_are_hatched_beside_the_published_ones():
    figure, table = study_figure("gains_by_checkpoint", [*SCORES, *ours(SCORES)])
    found = {container.get_label(): container for container in figure.axes[0].containers}
    assert set(found) == {
        f"{group}, {s}" for group in ("both", "one") for s in ("ours", "published")
    }
    one, own = found["one, published"], found["one, ours"]
    assert [bar.get_height() for bar in own] == [bar.get_height() / 2 for bar in one]
    assert own[0].get_hatch() and not one[0].get_hatch()
    assert own[0].get_facecolor() == one[0].get_facecolor()
    places = sorted(bar.get_x() for container in found.values() for bar in container)
    width = one[0].get_width()
    assert np.diff(places).min() == pytest.approx(width) and 4 * width == pytest.approx(0.8)
    assert len(table) == 12 and table.groupby("source").gain.sum()["published"] > 0


def test_our_changes_are_hatched_beside_the_published_ones():
    mine = [r | {"value": r["value"] * (2 if r["task"] else 1)} for r in ours(SCORES)]
    figure, table = study_figure("changes_by_evaluation", [*SCORES, *mine])
    bars = [bar for c in figure.axes[0].containers for bar in c if hasattr(bar, "get_height")]
    found = {(bool(bar.get_hatch()), round(bar.get_x() + bar.get_width() / 2)): bar for bar in bars}
    assert len(bars) == len(found) == 4
    published, own = found[False, 0], found[True, 0]
    assert published.get_height() == pytest.approx(5 / 6)
    assert own.get_height() == pytest.approx(1 + 2 * 5 / 6)  # twice the tuned score, same base
    assert published.get_x() + published.get_width() == pytest.approx(own.get_x())
    assert set(table.source) == {"ours", "published"}
