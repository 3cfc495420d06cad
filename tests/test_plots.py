"""Figures of made-up measurements whose means, changes and cuts are known."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from overtrain import axes, plots, plots_controlled
from overtrain.measurements import SCHEMA

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


# --- figures --------------------------------------------------------------------------------------

RATES = [1e-5 * 1.3**i for i in range(27)]
ASK = [{"evaluation": "c4", "quantity": "change"}, {"evaluation": "id", "quantity": "absolute"}]
KINDS = {
    "noise_by_tokens": {"panels": ["change", "absolute"]},
    "learning_rates_by_tokens": {"rows": ASK, "largest_loss": 6.0},
    "tuned_by_tokens": {"rows": ASK},
    "distance_by_learning_rate": {},
}


def many(plot: str, steps: list[float], value: float | None = None) -> list[dict]:
    """Rows for a kind of plot: `steps` sizes, two budgets, two seeds; all `value` if given."""
    keys = [*product(("1M", "2M"), steps, (0, 1))]
    values = {key: 9 + 0.1 * i if value is None else value for i, key in enumerate(keys)}
    if plot == "noise_by_tokens":
        return noise(values)
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


@pytest.mark.parametrize("plot", KINDS)
def test_lines_stand_where_the_table_says(plot):
    figure, table = plots.PLOTS[plot](
        frame(many(plot, [1e-3, 4e-3])), settings(plot, **KINDS[plot])
    )
    heights = [y for axis in figure.axes for line in axis.lines for y in line.get_ydata()]
    assert sorted(heights) == sorted(table["mean"])


@pytest.mark.parametrize("plot", ["noise_by_tokens", "learning_rates_by_tokens"])
def test_few_lines_get_a_legend_and_many_a_colour_bar(plot, tmp_path):
    for steps in (RATES[:8], RATES):
        figure, _ = plots.PLOTS[plot](frame(many(plot, steps)), settings(plot, **KINDS[plot]))
        bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
        entries = [len(legend.get_texts()) for legend in figure.legends]
        assert (len(bars), entries) == ((0, [9]) if len(steps) == 8 else (1, []))  # and the base


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_takes_the_papers_27_rates(plot, tmp_path):
    table = written(tmp_path, many(plot, RATES), plot=plot, **KINDS[plot])
    by = "gamma" if plot == "noise_by_tokens" else "learning_rate"
    if plot != "tuned_by_tokens":
        assert sorted(set(table[by]) - {0.0}) == pytest.approx(RATES)


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_takes_diverged_runs(plot, tmp_path):
    rows = many(plot, [1e-3, 4e-3])
    key = "gamma" if plot == "noise_by_tokens" else "learning_rate"
    for row in rows:
        if row[key] == 4e-3 and row["checkpoint"] == "2M" and row["seed"] == 1:
            row["value"] = math.nan
    more = KINDS[plot] | ({"largest_loss": None} if "largest_loss" in KINDS[plot] else {})
    table = written(tmp_path, rows, plot=plot, **more)
    if plot == "tuned_by_tokens":  # a rate with a diverged run is not chosen
        assert table["mean"].notna().all() and len(table)
        return
    bad = table[(table[key] == 4e-3) & (table.tokens == 2_000_000)]
    assert len(bad) and bad["mean"].isna().all()
    assert table["mean"].notna().any()


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_takes_a_sweep_without_one_finite_run(plot, tmp_path):
    table = written(tmp_path, many(plot, [1e-3, 4e-3], math.nan), plot=plot, **KINDS[plot])
    if plot == "tuned_by_tokens":  # there is no rate to choose
        assert table.empty
        return
    key = "gamma" if plot == "noise_by_tokens" else "learning_rate"
    assert table[table[key] != 0]["mean"].isna().all()


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
    panels = {"noise_by_tokens": 4, "distance_by_learning_rate": 4}.get(plot, 8)
    assert sum(bool(axis.lines) for axis in figure.axes) == panels
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    wanted = ["Large", "Large", "Small", "Small"]
    if plot != "noise_by_tokens":
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


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    rows = many("learning_rates_by_tokens", [1e-3, 4e-3])
    chosen = settings("learning_rates_by_tokens", rows=ASK)
    made = []
    for name in ("one", "two"):
        plots.draw(frame(rows), chosen, tmp_path / name / "figure.pdf")
        files = sorted((tmp_path / name).iterdir())
        made.append([path.read_bytes() for path in files])
    assert made[0] == made[1]
