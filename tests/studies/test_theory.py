"""Section 4 simulated: rows as they should be, near their closed forms; what the theorems say.

That the closed forms are right is in test_linear_network.py; here is that the experiments measure
what they say, and that the paper's statements show in what is simulated of config.yaml.
"""

import numpy as np
import pandas as pd
import pytest
from configuration import PAPERS

from overtrain.records import measurements
from overtrain.studies import linear_network as linear
from overtrain.studies.theory import simulate

CONFIG = PAPERS["theory"]
SMALL = {"features": {"count": 4, "largest": 2.0, "smallest": 0.5}, "tau": 80, "seeds": [0, 1]}
FEATURES = np.geomspace(2.0, 0.5, 4)
# 2 d gamma^2 is 0.32, 0.65, 1.0 and 1.62, so that the inflection is at 4, 3, 2 and 1
GAMMAS = [0.2, 0.285, 0.354, 0.45]
OWN = {
    "pretraining": {"taus": [20, 30]},
    "noise": {"gammas": GAMMAS, "draws": 100},
    "fine_tuning": {
        "spectra": {"alpha3": [3.0, 3.0], "graded": [1.0, 6.0]},
        "lambdas": [0, 0.5, 3],
        "batch_size": 10**8,
        "step": 0.9,
        "tolerance": 1e-6,
    },
}
IDENTITY = [name for name in measurements.SCHEMA.names if name not in ("value", "stderr", "n")]


def rows(experiment: str, **more: object) -> list[dict]:
    return simulate(experiment, SMALL | OWN[experiment] | more)


def frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=measurements.SCHEMA.names)


def of(rows: list[dict], selection: str) -> list[dict]:
    return [row for row in rows if row["selection"] == selection]


def beside(data: pd.DataFrame, metric: str, by: list[str]) -> pd.DataFrame:
    """Every simulated row of a metric with the closed form as `closed`."""
    data = data[data.metric == metric]
    closed = (
        data[data.selection == "closed_form"]
        .drop_duplicates(by)
        .rename(columns={"value": "closed"})
    )
    return data[data.selection == "simulated"].merge(closed[[*by, "closed"]], on=by)


# --- rows -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> dict[str, list[dict]]:
    return {experiment: rows(experiment) for experiment in OWN}


@pytest.mark.parametrize("experiment", OWN)
def test_rows_are_measurements(experiment, small, tmp_path):
    measurements.write(small[experiment], tmp_path / "rows.parquet", {})
    table = measurements.read(tmp_path / "rows.parquet").to_pandas()
    assert set(table.study) == {"theory"} and set(table.model) == {"linear-4"}
    assert np.isfinite(table.value).all() and not table.diverged.any()
    assert not table.duplicated(IDENTITY).any()
    simulated = table.selection == "simulated"
    assert set(table[~simulated].selection) == {"closed_form"}
    assert set(table[simulated].seed) == {0, 1} and table[~simulated].seed.isna().all()


@pytest.mark.parametrize("experiment", OWN)
def test_a_seed_gives_the_same_rows_always_and_closed_forms_know_none(experiment, small, tmp_path):
    both, alone = small[experiment], [rows(experiment, seeds=[seed]) for seed in (0, 1)]
    simulated = [of(made, "simulated") for made in alone]
    assert of(both, "simulated") == simulated[0] + simulated[1]
    assert of(both, "closed_form") == of(alone[0], "closed_form") == of(alone[1], "closed_form")
    one, other = (np.array([row["value"] for row in made]) for made in simulated)
    assert len(one) == len(other) and np.mean(one == other) < 0.5  # inflections may agree
    paths = [tmp_path / "one.parquet", tmp_path / "again.parquet"]
    for made, path in zip((both, rows(experiment)), paths, strict=True):
        measurements.write(made, path, {})
    assert paths[0].read_bytes() == paths[1].read_bytes()


# --- pre-training ---------------------------------------------------------------------------------


def test_features_are_learned_in_turn_and_checkpoints_lie_between(small):
    data = frame(small["pretraining"])
    times = data[(data.metric == "time") & (data.selection == "closed_form")]
    np.testing.assert_allclose(times.value, linear.checkpoint_times(FEATURES, SMALL["tau"]))
    assert list(times.checkpoint) == ["t1", "t2", "t3", "t4"] and list(times.features) == [
        *range(1, 5)
    ]
    values = data[(data.metric == "singular_value") & (data.selection == "simulated")]
    for _, own in values.groupby("seed"):
        curves = own.pivot(index="time", columns="features", values="value")
        assert curves.index[0] < times.value.iloc[0] and curves.index[-1] > times.value.iloc[-1]
        np.testing.assert_allclose(curves.iloc[0], 0, atol=1e-9)
        np.testing.assert_allclose(curves.iloc[-1], FEATURES, rtol=1e-9)
        at = np.array(
            [[np.interp(t, curves.index, curves[i]) for i in curves] for t in times.value]
        )
        np.testing.assert_allclose(at, linear.first(FEATURES), atol=1e-6)


def test_the_loss_and_the_rest_of_the_matrix_are_those_of_the_curves(small):
    data = frame(small["pretraining"])
    simulated = data[data.selection == "simulated"]
    values = simulated[simulated.metric == "singular_value"]
    missing = values.assign(value=(values.value - FEATURES[values.features.astype(int) - 1]) ** 2)
    parts = missing.groupby(["seed", "time"]).value.sum()
    rest = simulated[simulated.metric == "off_diagonal"].set_index(["seed", "time"]).value
    losses = simulated[simulated.metric == "loss"].set_index(["seed", "time"])
    assert set(losses.evaluation) == {"pretraining"}
    np.testing.assert_allclose(losses.value, (parts + rest**2).loc[losses.index], atol=1e-12)
    assert losses.value.max() == pytest.approx((FEATURES**2).sum())


def test_checkpoints_come_to_the_ideal_ones_except_as_printed(small):
    data = frame(small["pretraining"])
    found = data[data.metric.str.startswith("distance") & (data.selection == "simulated")]
    tables = found.pivot(index=["seed", "tau"], columns="metric", values="value")
    rate = linear.convergence_rate(FEATURES)
    for _, table in tables.groupby("seed"):
        falls = np.diff(np.log(table), axis=0) / np.diff(OWN["pretraining"]["taus"])[:, None]
        falls = dict(zip(table, falls.T, strict=True))
        np.testing.assert_allclose(falls["distance_up_to_rotation"], -rate, rtol=0.01)
        np.testing.assert_allclose(falls["distance_of_product"], -rate, rtol=0.01)
        np.testing.assert_allclose(falls["distance_as_printed"], 0, atol=1e-4)
        assert (table.distance_as_printed > 0.5).all()
    closed = data[(data.selection == "closed_form") & (data.metric == "distance_up_to_rotation")]
    np.testing.assert_allclose(closed.value, np.exp(-rate * closed.tau))
    assert list(closed.tau) == OWN["pretraining"]["taus"]


# --- noise ----------------------------------------------------------------------------------------


def test_loss_under_noise_is_the_closed_form_within_the_error_of_its_draws():
    """Networks are independent: their spread gives the standard error of their mean."""
    data = frame(rows("noise", seeds=list(range(16)), tau=40, draws=1000))
    table = beside(data, "loss", ["gamma", "features"])
    groups = table.groupby(["gamma", "features"])
    error = groups.value.std() / groups.size() ** 0.5
    score = (groups.value.mean() - groups.closed.first()) / error
    assert len(score) == 16 and (groups.size() == 16).all()
    assert score.abs().max() < 4
    assert (error / groups.closed.first()).max() < 0.005  # a wrong formula would be seen
    expected = [[*linear.noise_losses(FEATURES, gamma)] for gamma in GAMMAS]
    closed = groups.closed.first().unstack()
    np.testing.assert_allclose(closed.loc[GAMMAS], expected)


def test_simulated_inflections_under_noise_are_the_closed_forms(small):
    table = beside(frame(small["noise"]), "inflection", ["gamma"])
    assert len(table) == 2 * len(GAMMAS) and (table.value == table.closed).all()
    assert dict(zip(table.gamma, table.closed, strict=True)) == dict(
        zip(GAMMAS, (4, 3, 2, 1), strict=True)
    )


# --- fine-tuning ----------------------------------------------------------------------------------

BY = ["task", "lambda", "features"]


def worst(data: pd.DataFrame) -> dict[str, float]:
    """The largest distance from the closed form, as a share of the largest value, by metric."""
    found = {}
    for metric, by in (("loss", [*BY, "evaluation"]), ("loss_change", BY)):
        table = beside(data, metric, by)
        assert len(table) == len(data[(data.metric == metric) & (data.selection == "simulated")])
        found[metric] = (table.value - table.closed).abs().max() / table.closed.max()
    table = beside(data, "progress", ["task", "lambda"])
    np.testing.assert_allclose(table.closed, 1 / (1 + table["lambda"]))
    return found | {"progress": (table.value - table.closed).abs().max()}


def test_fine_tuning_ends_at_the_closed_form_but_for_the_noise_of_finite_batches(small):
    """Unlearned features leave a residual that a batch's Sigma_k turns, by about m^(-1/2).

    10^8 inputs leave 2e-5; the rest, the tolerance of 10^-6 and exp(-C tau), is less.
    """
    assert max(worst(frame(small["fine_tuning"])).values()) < 1e-4
    many = worst(frame(rows("fine_tuning", batch_size=10**6)))
    few = worst(frame(rows("fine_tuning", batch_size=10**4)))
    for metric, error in few.items():
        assert 3 < error / many[metric] < 30, metric  # 10 for 100 times as many inputs
        assert error < 0.01, metric


def test_features_are_as_near_their_limit_as_the_tolerance_says(small):
    """A relative distance of `tolerance` of each feature, and of the loss twice that at most."""
    table = beside(frame(rows("fine_tuning", tolerance=1e-2)), "loss", [*BY, "evaluation"])
    found = ((table.value - table.closed).abs() / table.closed.max()).max()
    assert 1e-3 < found < 2e-2


def test_simulated_inflections_after_fine_tuning_are_the_closed_forms(small):
    data = frame(small["fine_tuning"])
    table = beside(data, "inflection", ["task", "lambda"])
    assert (table.value == table.closed).all()
    found = {key: value.iloc[0] for key, value in table.groupby(["task", "lambda"]).closed}
    # A feature raises the loss from sigma_ft / sigma_pre > 2 + lambda on; graded: 1, 1.8, 3.3, 6
    assert found == {
        ("alpha3", 0): 1, ("alpha3", 0.5): 1, ("alpha3", 3): 4,
        ("graded", 0): 2, ("graded", 0.5): 2, ("graded", 3): 3,
    }  # fmt: skip


def test_the_change_is_measured_from_the_networks_own_checkpoint(small):
    data = frame(small["fine_tuning"])
    change = data[(data.metric == "loss_change") & (data.selection == "simulated")]
    after = data[
        (data.metric == "loss")
        & (data.selection == "simulated")
        & (data.evaluation == "pretraining")
    ]
    both = change.merge(after, on=[*BY, "seed"], suffixes=("", "_after"))
    before = both.value_after - both.value
    missing = (FEATURES**2).sum() - np.cumsum(FEATURES**2)
    np.testing.assert_allclose(before, missing[both.features.astype(int) - 1], atol=1e-8)


def test_every_task_draws_its_own_batches():
    """Two tasks of equal targets, far from converged, differ by their batches alone."""
    spectra = {"one": [3.0, 3.0], "other": [3.0, 3.0]}
    data = frame(rows("fine_tuning", spectra=spectra, batch_size=8, tolerance=0.5))
    losses = data[(data.metric == "loss") & (data.selection == "simulated")]
    one, other = (losses[losses.task == task].value.to_numpy() for task in spectra)
    assert len(one) and (one != other).all()


# --- the theorems, in what is simulated of config.yaml --------------------------------------------


def configured(experiment: str) -> pd.DataFrame:
    """One network, simulated; columns are checkpoints."""
    shared = {key: CONFIG[key] for key in ("features", "tau")}
    data = frame(simulate(experiment, shared | CONFIG[experiment] | {"seeds": [0]}))
    return data[data.selection == "simulated"]


@pytest.fixture(scope="module")
def noisy() -> pd.DataFrame:
    return configured("noise")


@pytest.fixture(scope="module")
def tuned() -> pd.DataFrame:
    return configured("fine_tuning")


def by_checkpoint(data: pd.DataFrame, metric: str, evaluation: str | None = None) -> pd.DataFrame:
    data = data[data.metric == metric]
    if evaluation:
        data = data[data.evaluation == evaluation]
    return data.pivot(index=["task", "lambda"], columns="features", values="value")


def test_theorem_44_loss_under_noise_falls_to_the_inflection_and_rises_from_it(noisy):
    losses = noisy[noisy.metric == "loss"]
    places = noisy[noisy.metric == "inflection"].set_index("gamma").value
    assert places.is_monotonic_decreasing and places.nunique() >= 3  # more noise, earlier
    for gamma, own in losses.groupby("gamma"):
        changes, place = np.diff(own.value), int(places[gamma])
        assert (changes[: place - 1] < 0).all() and (changes[place - 1 :] > 0).all(), gamma


def test_theorem_46_delta_pre_rises_with_n_for_every_spectrum_and_penalty(tuned):
    table = by_checkpoint(tuned, "loss_change")
    assert len(table) == len(CONFIG["fine_tuning"]["spectra"]) * len(
        CONFIG["fine_tuning"]["lambdas"]
    )
    assert (table > 0).all(axis=None)
    assert (np.diff(table) > 0).all()
    ratio = CONFIG["fine_tuning"]["spectra"]  # the further the task, the larger
    equal = [name for name, (first, last) in ratio.items() if first == last]
    away = sorted(equal, key=lambda name: abs(ratio[name][0] - 1))
    unpenalised = table.xs(0, level="lambda").loc[away]
    assert (np.diff(unpenalised, axis=0) > 0).all()


@pytest.mark.parametrize(("task", "sign"), [("alpha1.5", -1), ("alpha3", 1), ("alpha4", 1)])
def test_theorem_47_the_loss_rises_where_alpha_is_above_2_and_falls_below(tuned, task, sign):
    losses = by_checkpoint(tuned, "loss", "pretraining").loc[task, 0]
    assert (sign * np.diff(losses) > 0).all()


def test_theorem_47_the_loss_is_flat_at_alpha_2(tuned):
    """To the tolerance of the steps; alpha 1.5 changes it by half."""
    losses = by_checkpoint(tuned, "loss", "pretraining").loc["alpha2", 0]
    assert losses.max() / losses.min() < 1 + CONFIG["fine_tuning"]["tolerance"]
    other = by_checkpoint(tuned, "loss", "pretraining").loc["alpha1.5", 0]
    assert other.max() / other.min() > 2


def test_theorem_47_a_penalty_moves_the_inflection_later_and_costs_fine_tuning_loss(tuned):
    places = tuned[(tuned.metric == "inflection") & (tuned.task == "graded")]
    assert list(places["lambda"]) == CONFIG["fine_tuning"]["lambdas"]
    assert places.value.is_monotonic_increasing and places.value.nunique() > 4
    losses = by_checkpoint(tuned, "loss", "fine_tuning")
    for task, table in losses.groupby("task"):
        moved = (
            table if task != "graded" else table.loc[:, 2:]
        )  # its first feature is at its target
        assert (np.diff(moved, axis=0) > 0).all(), task


def test_features_go_1_over_1_plus_lambda_of_the_way(tuned):
    found = tuned[tuned.metric == "progress"]
    assert set(found["lambda"]) == set(CONFIG["fine_tuning"]["lambdas"])
    np.testing.assert_allclose(found.value, 1 / (1 + found["lambda"]), atol=0.02)
    counts = found[found["lambda"] == 0].groupby("task").size()
    assert counts["alpha3"] == 8 and counts["graded"] == 7  # the feature that stays has no progress
