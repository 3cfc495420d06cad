"""Statistics of made-up series whose trend, minimum and null distribution are known."""

import math
import re
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import kendalltau

from overtrain.figures import statistics as st
from overtrain.records.measurements import SCHEMA, loss_rows

ROOT = Path(__file__).parents[2]
SETTINGS = {"bootstrap": 2000, "level": 0.95}
FIXED = SETTINGS | {"modification": "fixed"}


def checkpoints(base: np.ndarray, **where: object) -> list[tuple[tuple[int, int], dict]]:
    """((pre-training seed, budget), identity) of each base (pre-training seeds, budgets)."""
    return [
        (
            (p, b),
            {"model": "m", "checkpoint": f"{b}-seed{p}", "tokens": 1000 * 2**b}
            | {"pretraining_seed": p, "evaluation": "c4", "split": "held_out"}
            | where,
        )
        for p, b in np.ndindex(base.shape)
    ]


def sweep(losses: dict[float, np.ndarray], base: np.ndarray, **where: object) -> list[dict]:
    """Rows of fine-tuning: {rate: (pre-training seeds, seeds, budgets)} in nats."""
    where = {"task": "t", "recipe": "r"} | where
    rows = []
    for (p, b), at in checkpoints(base, **where):
        start = at | {"selection": "base", "learning_rate": 0.0, "seed": -1}
        rows += loss_rows(start, base[p, b], 0.0, 1)
        for rate, values in losses.items():
            for seed, loss in enumerate(values[p, :, b]):
                run = at | {"selection": "best", "learning_rate": rate, "seed": seed}
                rows += loss_rows(run, loss, 0.0, 1)
    return rows


def noise(losses: dict[float, np.ndarray], base: np.ndarray) -> list[dict]:
    """Rows of Gaussian perturbation: {gamma: (pre-training seeds, seeds, budgets)} in nats."""
    rows = sweep(losses, base, task=None, recipe=None)
    for row in rows:
        row["gamma"] = row.pop("learning_rate")
        row["selection"] = row["selection"].replace("best", "noise")
    return rows


def table(rows: list[dict], modification: str = "fixed", **settings: object) -> pd.DataFrame:
    data = pa.Table.from_pylist(rows, SCHEMA).to_pandas()
    return st.statistics(data, modification, **SETTINGS | settings)


def one(found: pd.DataFrame, **values: object) -> dict:
    """The only row with these values."""
    for column, value in values.items():
        found = found[found[column] == value]
    (row,) = found.to_dict("records")
    return row


def seeded(curve: list[float], series: int, sd: float, budgets: int = 11) -> np.ndarray:
    """(1000, series, budgets) of a curve with independent noise at each budget."""
    return curve + sd * np.random.default_rng(5).normal(size=(1000, series, budgets))


BUDGETS = np.arange(11)
SATURATING = 3 * np.exp(-BUDGETS / 2.2)
U = ((BUDGETS - 6) / 5) ** 2  # lowest at the seventh budget; rises by 0.64, falls by 1.44


# --- trend ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budgets", "series"), [(2, 1), (3, 1), (5, 1), (6, 1), (3, 2), (4, 2)])
def test_the_trends_p_is_that_of_all_orders_so_its_error_is_at_most_its_level(budgets, series):
    orders = list(permutations(range(budgets)))
    trends = [st.trend(np.array(one)) for one in product(orders, repeat=series)]
    sizes = np.array([abs(t["trend_s"]) for t in trends])
    p = np.array([t["trend_p"] for t in trends])
    assert p == pytest.approx([(sizes >= size).mean() for size in sizes])
    assert min(p) == pytest.approx(trends[0]["trend_p_smallest"])
    assert all((p <= level + 1e-12).mean() <= level + 1e-12 for level in set(p) | {0.01, 0.05})


@pytest.mark.parametrize("budgets", [3, 6, 11])
def test_the_trend_of_one_series_is_kendalls(budgets):
    for values in np.random.default_rng(0).normal(size=(20, budgets)):
        found = st.trend(values[None])
        known = kendalltau(range(budgets), values, method="exact")
        assert found["trend_tau"] == pytest.approx(known.statistic)
        assert found["trend_p"] == pytest.approx(known.pvalue)


def test_six_budgets_allow_little_and_more_of_them_and_of_seeds_more():
    assert st.trend(np.arange(6.0)[None])["trend_p"] == pytest.approx(2 / 720)
    three = np.tile(np.arange(11.0), (3, 1))
    assert st.trend(three)["trend_p_smallest"] == pytest.approx(2 / math.factorial(11) ** 3)
    assert st.trend(three)["trend_p"] == pytest.approx(2 / math.factorial(11) ** 3)
    one = st.trend(np.ones((1, 1)))
    assert (one["trend_s"], one["trend_p"]) == (0, 1) and math.isnan(one["trend_tau"])


def test_each_pretraining_seed_is_a_series_of_its_own():
    up = np.arange(6.0)
    against = st.trend(np.stack([up, -up]))
    assert (against["trend_s"], against["trend_tau"]) == (0, 0)
    assert against["trend_p"] == pytest.approx(1)
    # Seeds that differ in level more than budgets do would drown the trend of one pooled series.
    assert st.trend(np.stack([up, up + 100]))["trend_tau"] == 1


def test_the_trend_is_that_of_the_change_from_the_same_checkpoints_base():
    base = np.array([[3.0, 2.0, 1.0], [3.5, 2.5, 1.5]])
    level = np.full((2, 2, 3), 4.0)  # does not move, while the base falls
    found = table(sweep({1e-3: level}, base))
    assert set(found.trend_s) == {6} and set(found.trend_tau) == {1.0}
    follows = base[:, None, :] + np.zeros((1, 2, 1)) + [0.3, 0.2, 0.1]
    assert set(table(sweep({1e-3: follows}, base)).trend_s) == {-6}
    lower = np.log([[[110.0, 70.0]]])  # 10 and 20 above the base, in perplexity
    found = table(sweep({1e-3: lower}, np.log([[100.0, 50.0]])))
    assert one(found, scale="perplexity")["trend_s"] == 1


# --- the minimum ----------------------------------------------------------------------------------


def test_minimum_rise_and_fall_are_those_of_the_mean_curve():
    losses = np.log([[[8.0, 4.0, 5.0], [10.0, 6.0, 7.0]]])
    found = table(noise({0.1: losses}, np.ones((1, 3))), "noise")
    perplexity, loss = one(found, scale="perplexity"), one(found, scale="loss")
    assert perplexity["minimum_tokens"] == loss["minimum_tokens"] == 2000
    got = [perplexity[c] for c in ("rise", "rise_relative", "fall")]
    assert got == pytest.approx([1.0, 0.2, 4.0])
    mean = losses.mean((0, 1))
    assert [loss["rise"], loss["fall"]] == pytest.approx([mean[2] - mean[1], mean[0] - mean[1]])
    assert math.isnan(loss["rise_relative"])


def test_the_bootstrap_covers_a_known_minimum_and_its_rise():
    tokens = 2**BUDGETS
    inside = {"minimum": [], "rise": []}
    for i, pretraining in enumerate(seeded(U, 5, 0.1)[:200]):
        fine = np.random.default_rng(i).normal(size=(5, 3, 11))
        values = pretraining[:, None] + 0.05 * fine
        b = st.bootstrap(tokens, values, np.random.default_rng(i), 500, 0.95)
        inside["minimum"].append(b["minimum_tokens_low"] <= 2**6 <= b["minimum_tokens_high"])
        inside["rise"].append(b["rise_low"] <= 0.64 <= b["rise_high"])
        assert b["share_inside"] == b["share_before_last"] == 1
    assert np.mean(inside["minimum"]) >= 0.9
    assert np.mean(inside["rise"]) >= 0.75  # five seeds: less than it says, docs/statistics.md


def test_a_seed_is_resampled_with_all_its_budgets():
    level = 50 * np.random.default_rng(0).normal(size=(3, 3, 1))  # of a seed, at every budget
    b = st.bootstrap(2**BUDGETS, U + level, np.random.default_rng(0), 500, 0.95)
    assert b["minimum_tokens_low"] == b["minimum_tokens_high"] == 2**6
    assert [b["rise_low"], b["rise_high"]] == pytest.approx([0.64, 0.64])


def test_the_minimum_is_chosen_anew_and_the_ends_are_not_inside():
    rising, falling = np.arange(3.0), -np.arange(3.0)
    both = np.stack([rising, 1.5 * falling])[:, None, :]  # which one wins depends on the draw
    b = st.bootstrap(np.array([1, 2, 4]), both, np.random.default_rng(0), 4000, 0.95)
    assert b["share_before_last"] == pytest.approx(0.25, abs=0.03)  # the rising one drawn twice
    assert b["share_inside"] == 0
    assert (b["minimum_tokens_low"], b["minimum_tokens_high"]) == (1, 4)
    assert (b["rise_low"], b["rise_high"]) == (0, 2)


def test_seeds_are_resampled_within_each_pretraining_seed():
    values = np.zeros((2, 2, 2))
    values[:, :, 1] = [[0.0, 1.0], [10.0, 11.0]]
    b = st.bootstrap(np.array([1, 2]), values, np.random.default_rng(0), 20000, 0.9)
    # A quarter draws the first model twice. With two seeds for each draw, 1 in 16 of those has a
    # rise of 0 and 5 in 16 one of at most 1/4; with the same two for both draws, 4 in 16 have 0.
    assert (b["rise_low"], b["rise_high"]) == (0.25, 10.75)


@pytest.mark.parametrize(
    ("shape", "resampled", "held_out"),
    [
        ((1, 3), "fine-tuning seeds only", "fine-tuning seeds"),
        ((3, 1), "pre-training seeds only", "pre-training seeds"),
        ((2, 3), "pre-training and fine-tuning seeds", "pre-training seeds"),
    ],
)
def test_a_row_says_which_seeds_it_rests_on(shape, resampled, held_out):
    losses = np.random.default_rng(0).normal(3, 0.1, size=(*shape, 4))
    rows = table(sweep({1e-3: losses}, np.ones((shape[0], 4))))
    row = one(rows, scale="loss")
    assert (row["resampled"], row["held_out"]) == (resampled, held_out)
    assert (row["budgets"], row["pretraining_seeds"], row["seeds"]) == (4, *shape)
    units = shape[0] if shape[0] > 1 else shape[1]
    assert row["arms_p_smallest"] == 0.5**units
    text = {
        one(table(noise({0.1: losses}, np.ones((shape[0], 4))), "noise"), scale="loss")["held_out"]
    }
    assert text == {held_out.replace("fine-tuning", "noise")}


def test_one_seed_of_each_kind_has_a_trend_and_nothing_to_resample():
    row = one(table(sweep({1e-3: np.array([[[3.0, 1.0, 2.0]]])}, np.ones((1, 3)))), scale="loss")
    assert (row["trend_s"], row["rise"], row["fall"]) == (-1, 1.0, 2.0)
    assert pd.isna(row["resampled"]) and pd.isna(row["rise_low"]) and pd.isna(row["u_p"])


# --- both arms ------------------------------------------------------------------------------------


def test_a_clear_u_has_both_arms_and_what_only_falls_or_only_rises_has_not():
    for count in (3, 6):
        for units in seeded(U, count, 0.02)[:20]:
            found = st.arms(units)
            assert found["u_p"] == found["arms_p_smallest"] == 0.5**count
            assert found["held_out_rise"] == pytest.approx(0.64, abs=0.1)
            assert found["held_out_fall"] == pytest.approx(1.44, abs=0.1)
        falling, rising = (
            st.arms(seeded(-U[6:], count, 1e-3, 5)[0]),
            st.arms(seeded(U[6:], count, 1e-3, 5)[0]),
        )
        assert falling["rise_p"] == 1 and falling["fall_p"] == 0.5**count
        assert rising["fall_p"] == 1 and rising["rise_p"] == 0.5**count


@pytest.mark.parametrize(("units", "level"), [(3, 1 / 8), (5, 0.05), (6, 0.05)])
def test_noise_on_a_saturating_curve_is_no_u(units, level):
    # Three units cannot go below 1/8 at all, so the error is watched where they can err.
    p = np.array([st.arms(one)["u_p"] for one in seeded(SATURATING, units, 0.1)])
    assert (p <= level).mean() <= level
    if units == 3:
        assert (p < 0.05).mean() == 0


def test_the_minimum_is_not_chosen_by_the_unit_that_measures_it():
    units = np.array([[5.0, 0.0, 3.0, 5.0], [5.0, 3.0, 0.0, 5.0], [5.0, 3.0, 3.0, 5.0]])
    # The first and second choose each other's budget; the third sees a tie, the first of it.
    found = st.arms(units)
    assert found["held_out_rise"] == found["held_out_fall"] == pytest.approx(2.0)


def test_the_sign_flip_p_counts_all_patterns():
    assert st.sign_flip(np.array([1.0, 2.0, 4.0])) == 1 / 8
    assert st.sign_flip(np.array([-1.0, 2.0, 4.0])) == 2 / 8
    assert st.sign_flip(np.array([0.1, 0.2, -0.3])) == pytest.approx(5 / 8)  # ties count
    assert st.sign_flip(np.zeros(4)) == 1


# --- what diverged, families, agreement -----------------------------------------------------------


def test_a_diverged_run_empties_its_row_and_leaves_the_family():
    base = np.ones((1, 5))
    healthy = np.random.default_rng(0).normal(3, 0.1, size=(1, 3, 5))
    diverged = healthy.copy()
    diverged[0, 1, 2] = math.nan
    found = table(sweep({1e-3: healthy, 1e-2: diverged}, base))
    bad = found[found.learning_rate == 1e-2]
    assert set(bad.diverged) == {1} and set(bad.budgets) == {5} and set(bad.seeds) == {3}
    assert bad[st.COLUMNS[st.COLUMNS.index("trend_s") :]].isna().all(axis=None)
    good = found[found.learning_rate == 1e-3]
    assert set(good.diverged) == {0} and set(good.family) == {1}
    assert good.trend_p_holm.tolist() == good.trend_p.tolist()


def test_a_missing_run_or_budget_is_no_number_either():
    losses = np.random.default_rng(0).normal(3, 0.1, size=(2, 2, 4))
    rows = sweep({1e-3: losses}, np.ones((2, 4)))
    last = [r for r in rows if (r["tokens"], r["pretraining_seed"], r["seed"]) == (8000, 1, 0)]
    found = table([r for r in rows if r not in last])
    assert len(last) == 2 and found.rise.isna().all() and set(found.diverged) == {0}
    budget = [r for r in rows if r["tokens"] != 8000 or r["selection"] == "base"]
    assert table(budget).rise.isna().all() and set(table(budget).budgets) == {4}


def test_corrections_are_over_all_rows_of_a_scale():
    base = np.zeros((1, 4))
    up, mixed = np.arange(4.0), np.array([0.0, 2.0, 1.0, 3.0])
    losses = {r: np.tile(c, (1, 3, 1)) for r, c in ((1e-3, up), (2e-3, mixed), (3e-3, up))}
    rows = sweep(losses, base) + sweep(losses, base, task="other")
    found = table(rows)
    assert len(found) == 12 and set(found.family) == {6}
    loss = found[found.scale == "loss"].set_index(["task", "learning_rate"])
    # Of one series of four: 2/24 if all pairs rise, 8/24 if one falls.
    assert loss.trend_p["t", 1e-3] == pytest.approx(1 / 12)
    assert loss.trend_p["t", 2e-3] == pytest.approx(1 / 3)
    assert loss.trend_p_holm["t", 1e-3] == pytest.approx(6 / 12)
    assert loss.trend_p_holm["t", 2e-3] == pytest.approx(2 / 3)
    harmonic = sum(1 / k for k in range(1, 7))
    assert loss.trend_p_by["other", 3e-3] == pytest.approx(min(1, harmonic * 6 / 4 / 12))
    assert loss.u_p["t", 1e-3] == 1 == loss.u_p_holm["t", 1e-3]


def test_rows_say_whether_perplexity_and_loss_agree():
    base = np.log([[10.0, 5.0]])
    disagree = np.log([[[12.0, 6.5]] * 2])  # +2 then +1.5 in perplexity, +0.18 then +0.26 nats
    found = table(sweep({1e-3: disagree, 1e-2: np.array([[[3.0, 4.0]] * 2])}, base))
    own = found[found.learning_rate == 1e-3].set_index("scale")
    assert own.trend_s.to_dict() == {"loss": 1, "perplexity": -1}
    assert own.trend_agrees.tolist() == [False, False] and own.rise_agrees.tolist() == [True] * 2
    assert found[found.learning_rate == 1e-2].trend_agrees.tolist() == [True, True]
    # The means over seeds turn at different budgets on the two scales.
    losses = np.log([[[10.0, 6.0], [1.0, 4.5]]])
    turned = table(sweep({1e-3: losses}, base))
    assert turned.set_index("scale").rise.gt(0).to_dict() == {"loss": True, "perplexity": False}
    assert turned.rise_agrees.tolist() == [False, False]


def test_tuned_is_at_the_rate_that_validation_chooses_for_each_checkpoint():
    base = np.ones((1, 3))
    low, high = np.full((1, 2, 3), 2.0), np.full((1, 2, 3), 5.0)
    validation = {1e-3: np.array([[[1, 3, 3]] * 2]) * 1.0, 1e-2: np.array([[[3, 1, 3]] * 2]) * 1.0}
    rows = sweep({1e-3: low, 1e-2: high}, base)
    rows += sweep(validation, base, evaluation="id", split="validation")
    rows += sweep({1e-3: low, 1e-2: high}, base, evaluation="id", split="test")
    found = table(rows, "tuned")
    assert len(found) == 4 and set(found.split) == {"held_out", "test"}
    assert set(found.modification) == {"tuned"} and found.learning_rate.isna().all()
    for evaluation in ("c4", "id"):
        row = one(found, scale="loss", evaluation=evaluation)
        assert (row["trend_s"], row["seeds"]) == (1 - 1, 2)  # 2, 5, 2: a rise and a fall
        assert (row["fall"], row["rise"], row["minimum_tokens"]) == (0, 0, 1000)
    everywhere = [r for r in rows if not (r["split"] == "validation" and r["tokens"] == 4000)]
    assert table(everywhere, "tuned").trend_s.isna().all()  # a budget without a choice


# --- the file -------------------------------------------------------------------------------------


def test_the_file_is_the_table_and_the_same_work_gives_the_same_bytes(tmp_path):
    losses = np.random.default_rng(0).normal(3, 0.1, size=(2, 3, 5))
    rows = sweep({1e-3: losses, 1e-2: losses + 1}, np.ones((2, 5)))
    for name, own in (("a", rows), ("b", rows[::-1])):  # in whatever order the files came
        aggregate = pa.Table.from_pylist(own, SCHEMA)
        st.write(aggregate, FIXED, tmp_path / f"{name}.statistics.csv")
    assert (tmp_path / "a.statistics.csv").read_bytes() == (
        tmp_path / "b.statistics.csv"
    ).read_bytes()
    found = pd.read_csv(tmp_path / "a.statistics.csv")
    assert list(found.columns) == st.COLUMNS and len(found) == 4
    assert found.rise.tolist() == pytest.approx(table(rows).rise.tolist(), rel=1e-5)
    assert found.minimum_tokens.dtype == int
    fewer = table(rows, bootstrap=100, level=0.5)
    assert (fewer.rise_high - fewer.rise_low < found.rise_high - found.rise_low).all()


def test_other_plots_get_the_header_and_pay_for_no_imports(tmp_path):
    code = (
        "import sys, pathlib, pyarrow; from overtrain.figures import statistics\n"
        "statistics.write(pyarrow.table({}), None, pathlib.Path(sys.argv[1]))\n"
        "print([m for m in ('pandas', 'scipy', 'statsmodels') if m in sys.modules])"
    )
    path = tmp_path / "x.statistics.csv"
    line = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT / "scripts", check=True)
    assert done.stdout.strip() == "[]"
    assert path.read_text() == ",".join(st.COLUMNS) + "\n"
    rows = sweep({1e-3: np.zeros((1, 1, 2))}, np.zeros((1, 2)))
    base = [r for r in rows if r["selection"] == "base"]
    empty = pa.Table.from_pylist(base, SCHEMA)  # nothing was modified
    st.write(empty, FIXED, tmp_path / "y.statistics.csv")
    assert (tmp_path / "y.statistics.csv").read_text() == path.read_text()


def test_every_column_is_explained():
    page = (ROOT / "docs/statistics.md").read_text()
    named = set(re.findall(r"^\| `([^|]*)` \|", page, re.MULTILINE))
    assert {c for cell in named for c in cell.split("`, `")} == set(st.COLUMNS)
